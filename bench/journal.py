"""How fast the journal of a replica's history takes frames, beside a plain file that is written and synced as often.

python bench/journal.py [--seconds 5] [--rounds 5]        about two minutes; writes bench/journal.md

A frame holds what 256 overwrites of 4 KiB lose: 1 MiB of random bytes, so the disk does the most of it. Small frames
show what the chain and the hop to a worker thread cost. Rounds of both change places, so that neither gets the better
half of a disk's day.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import attrs
import trio

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from i2_store_cdp.plugin import i2_journals, open_cdp  # noqa: E402

from i2core.api import NoConfig  # noqa: E402
from i2core.api.journal import JournalContext  # noqa: E402
from i2core.testing.journal.trial import Trial, prove  # noqa: E402

MB = 1_000_000
RECORDS = 256
"""Of one frame, one sync."""
PAYLOADS = {"256 x 4 KiB": RECORDS * 4096, "256 small records": 16 * 1024}


@attrs.frozen(kw_only=True)
class Rate:
    """What one round reached."""

    frames: float
    """A second."""
    mb: float
    """Payload, a second."""


async def of_journal(directory: Path, payload: bytes, seconds: float) -> Rate:
    """Frames of one payload, each with a sync."""
    (spec,) = i2_journals()
    context = JournalContext(directory=bytes(directory), reserve_bytes=0)
    trial, frames = Trial(spec, NoConfig(), context), 0
    async with open_cdp(NoConfig(), context) as journal:
        begun = time.monotonic()
        while time.monotonic() < begun + seconds:
            await journal.append([trial.draft(payload, RECORDS)])
            frames += 1
        taken = time.monotonic() - begun
        await prove(journal)
    return Rate(frames=frames / taken, mb=frames * len(payload) / MB / taken)


async def of_plain_file(directory: Path, payload: bytes, seconds: float) -> Rate:
    """The same bytes appended to a plain file by the same thread, each followed by a sync; a new file every 64 MiB, as
    the journal has it."""
    await trio.Path(directory).mkdir()
    most, frames = 64 * 1024 * 1024 // len(payload), 0
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        fd = os.open(directory / str(frames), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for _ in range(most):
                os.write(fd, payload)
                os.fdatasync(fd)
                frames += 1
                if time.monotonic() >= begun + seconds:
                    break
        finally:
            os.close(fd)
    taken = time.monotonic() - begun
    return Rate(frames=frames / taken, mb=frames * len(payload) / MB / taken)


def measured(home: Path, payload: bytes, seconds: float, rounds: int) -> tuple[list[Rate], list[Rate]]:
    """Rounds of the journal, and of the plain file."""
    rates: tuple[list[Rate], list[Rate]] = [], []
    for number in range(rounds):
        order = [(of_journal, rates[0]), (of_plain_file, rates[1])]
        for measure, into in order if number % 2 else reversed(order):
            directory = home / f"{measure.__name__}-{number}"
            into.append(trio.run(partial(measure, directory, payload, seconds)))
            shutil.rmtree(directory)
    return rates


def row(name: str, rates: tuple[list[Rate], list[Rate]]) -> str:
    """A line of the table: medians, and of the ratio of each pair of rounds the range as well."""
    ours, plain = rates
    ratios = sorted(one.frames / other.frames for one, other in zip(ours, plain, strict=True))
    frames, mb, plain_mb = (
        statistics.median(values) for values in ([r.frames for r in ours], [r.mb for r in ours], [r.mb for r in plain])
    )
    middle, spread = statistics.median(ratios), f"{ratios[0]:.2f}-{ratios[-1]:.2f}"
    return f"| {name} | {frames:.0f} | {frames * RECORDS:.0f} | {mb:.1f} | {plain_mb:.1f} | {middle:.2f} ({spread}) |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where to write; a temporary directory by default")
    options = parser.parse_args(arguments)
    lines = [
        "# The journal of a replica's history",
        "",
        f"`python bench/journal.py`: medians of {options.rounds} rounds of {options.seconds:g} s, with one `fdatasync`",
        f"for each frame of {RECORDS} records. Plain: the same bytes appended to a file, synced as often.",
        "",
        "| frame | frames/s | records/s | journal MB/s | plain MB/s | journal ÷ plain |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="bench-journal-", dir=options.dir) as home:
        for name, size in PAYLOADS.items():
            lines.append(row(name, measured(Path(home), os.urandom(size), options.seconds, options.rounds)))
            print(lines[-1], flush=True)
    (HERE / "journal.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
