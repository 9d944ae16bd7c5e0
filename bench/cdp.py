"""What a history costs while it is recorded: a rule with cdp against the same rule without, in turn.

python bench/cdp.py [--rounds 5] [--quick]        two nodes with TLS on the loopback address; writes bench/cdp.md

Throughput is what the load writes, divided by the time until the last byte is durable on the replica. `--quick` takes
an eighth of each load, to try it. CPU is that of both nodes.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from i2core.node.control.client import control_client  # noqa: E402
from tests.faults.daemons import Site, open_site  # noqa: E402

SEED = 1
PAGE = 4096
MIB = 1 << 20
POLL_S = 0.01
_TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen(kw_only=True)
class Load:
    """Something that is written, and how much of it."""

    name: str
    size: int
    """Bytes."""
    work: Callable[[Path, int, random.Random], None]


def _overwrite(top: Path, size: int, dice: random.Random) -> None:
    """Pages at random places of a file, each written once."""
    pages = dice.sample(range(os.path.getsize(top / "big") // PAGE), size // PAGE)
    with open(top / "big", "r+b", buffering=0) as big:
        for page in pages:
            os.pwrite(big.fileno(), dice.randbytes(PAGE), page * PAGE)


def _append(top: Path, size: int, dice: random.Random) -> None:
    with open(top / "log", "ab", buffering=0) as log:
        for _ in range(size // MIB):
            log.write(dice.randbytes(MIB))


def _create(top: Path, size: int, dice: random.Random) -> None:
    for number in range(size // 16_384):
        (top / "new" / f"{dice.getrandbits(64):x}-{number}").write_bytes(dice.randbytes(16_384))


LOADS = (
    Load(name="random overwrites of 4 KiB", size=64 * MIB, work=_overwrite),
    Load(name="appended, 1 MiB at a time", size=512 * MIB, work=_append),
    Load(name="new files of 16 KiB", size=128 * MIB, work=_create),
)


@attrs.frozen(kw_only=True)
class Measured:
    """One load, once."""

    seconds: float
    cpu_s: float
    journal: int
    """Bytes that the journal grew by."""


def _cpu_s(site: Site) -> float:
    found = 0.0
    for node in site.nodes:
        with control_client(node.state_dir) as daemon:
            pid = daemon.status()["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        found += (int(fields[11]) + int(fields[12])) / _TICKS
    return found


def _journal(site: Site) -> int:
    top = site.backup.state_dir / "cdp"
    return sum(path.stat().st_size for path in top.rglob("*.seg*") if path.is_file()) if top.exists() else 0


def _durable(site: Site, limit_s: float = 600.0) -> None:
    """Waits until the last byte that was written is durable."""
    fence = site.source / "fence"
    fence.write_text(f"{time.monotonic()}")
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        status = site.work.status()
        if status.get("seq") == status.get("durable_seq") and not status["lag_seconds"]:
            replica = site.replica / "fence"
            if replica.exists() and replica.read_text() == fence.read_text():
                return
        time.sleep(POLL_S)
    sys.exit(f"not durable within {limit_s:.0f} s\n{site.tails()}")


def measure(*, cdp: bool, share: int, home: Path) -> dict[str, Measured]:
    """All loads, one after the other."""
    home.mkdir()
    dice, found = random.Random(SEED), dict[str, Measured]()
    with open_site(home, rule="cdp = {}" if cdp else "") as site:
        (site.source / "new").mkdir()
        with open(site.source / "big", "wb") as big:
            for _ in range(1024 // share):
                big.write(dice.randbytes(MIB))
        for node in site.nodes:
            node.start()
        site.replicating()
        site.settled()
        for load in LOADS:
            begun, cpu_s, journal = time.monotonic(), _cpu_s(site), _journal(site)
            load.work(site.source, load.size // share, dice)
            _durable(site)
            seconds = time.monotonic() - begun
            found[load.name] = Measured(seconds=seconds, cpu_s=_cpu_s(site) - cpu_s, journal=_journal(site) - journal)
            print("cdp" if cdp else "off", load.name, found[load.name], flush=True)
        site.close()
    return found


def _row(load: Load, off: list[Measured], on: list[Measured], share: int) -> str:
    size = load.size // share
    pairs = [a.seconds / b.seconds for a, b in zip(off, on, strict=True)]
    cpu = statistics.median(one.cpu_s for one in on) / statistics.median(one.cpu_s for one in off)
    rates = [size / 1e6 / statistics.median(one.seconds for one in each) for each in (off, on)]
    journal = statistics.median(one.journal for one in on) / size
    ratio = statistics.median(pairs)
    return (
        f"| {load.name} | {size / 1e6:.0f} | {rates[0]:.1f} | {rates[1]:.1f} | **{ratio:.2f}** "
        f"({min(pairs):.2f}-{max(pairs):.2f}) | {cpu:.2f} | {journal:.2f} |"
    )


def main() -> None:
    """Measures in turn, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    share = 8 if asked.quick else 1
    runs: dict[bool, list[dict[str, Measured]]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(prefix="i2-cdp-", dir=HERE.parent) as home:
        for number in range(asked.rounds):
            for cdp in (False, True) if number % 2 else (True, False):
                runs[cdp].append(measure(cdp=cdp, share=share, home=Path(home) / f"{number}-{cdp}"))
    rows = []
    for load in LOADS:
        off, on = ([run[load.name] for run in runs[cdp]] for cdp in (False, True))
        rows.append(_row(load, off, on, share))
    head = (
        "# What a history costs\n\nWritten by `python bench/cdp.py`. "
        f"{os.cpu_count()} cores; medians of {asked.rounds} rounds in turn, MB are 10⁶ bytes. "
        "*on ÷ off* is the ratio of throughputs (1.00: a history costs nothing), with its range over the rounds; "
        "*journal* is what it grew by, for each byte written.\n\n"
        "| load | MB | off MB/s | on MB/s | on ÷ off | CPU on ÷ off | journal |\n|---|--:|--:|--:|--:|--:|--:|"
    )
    text = "\n".join([head, *rows, ""])
    (HERE / "cdp.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
