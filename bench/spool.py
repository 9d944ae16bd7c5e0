"""How fast changes go into the disk spool while the link is away, and out of it when the link is back.

python bench/spool.py [--scale 1]        about three minutes; writes bench/spool.md

Two nodes with TLS on the loopback address. The backup node is killed, files are written for a while, and the spool is
given time to take all of them; then the backup node comes back, and all must become durable there. The same files with
the link in place say what the way itself costs.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from i2core.rule.outgoing.spool import Quota, Spool  # noqa: E402
from i2core.testing.trees import compare_trees  # noqa: E402
from i2core.wire.batch import EncodedBatch  # noqa: E402
from tests.faults.daemons import Site, eventually, open_site  # noqa: E402

MB = 1_000_000
SEED = 1
LIMITS = "memory_limit = '2MB'\ndisk_limit = '8192MB'"
"""Memory holds next to nothing: what is measured is the disk."""
IN_MEMORY = 4 * 1024 * 1024
"""More than that."""
QUIET_S = 1.0
"""A spool that has not grown for so long has all."""
LONGEST_S = 600.0
FILES_A_DIRECTORY = 1000
APPEND_BYTES = 1024 * 1024
APPENDS = 2000


@attrs.frozen(kw_only=True)
class Run:
    """Measures of one load."""

    size: int
    """Bytes of one file."""
    files: int
    written_s: float
    spooled_s: float
    """From the first write until the spool has all."""
    spool_bytes: int
    drained_s: float
    """From the start of the backup node until all is durable there."""
    direct_s: float
    """From the first write until all is durable, when the link is there."""

    @property
    def changed(self) -> int:
        """Bytes in all files."""
        return self.files * self.size


def measure(size: int, files: int, home: Path) -> Run:
    """So many files of that size: by way of the spool, then by way of the link alone."""
    home.mkdir()
    with open_site(home, work_role=LIMITS) as site:
        for node in site.nodes:
            node.start()
        site.replicating()
        site.settled()

        site.backup.kill()
        eventually("the work node notices", lambda: site.work.status().get("state") == "abnormal", LONGEST_S)
        begun = time.monotonic()
        write(site.source / "away", size, files)
        written_s = time.monotonic() - begun
        grown_at, spool_bytes = filled(site, size * files - IN_MEMORY)

        came_back = time.monotonic()
        site.backup.start()
        site.settled(LONGEST_S)
        drained_s = time.monotonic() - came_back

        started = time.monotonic()
        write(site.source / "there", size, files)
        site.settled(LONGEST_S)
        direct_s = time.monotonic() - started
        if differences := compare_trees(site.source, site.replica):
            sys.exit("\n".join(["the replica is not equal:", *differences[:20]]))
    run = Run(
        size=size,
        files=files,
        written_s=written_s,
        spooled_s=grown_at - begun,
        spool_bytes=spool_bytes,
        drained_s=drained_s,
        direct_s=direct_s,
    )
    print(run, flush=True)
    return run


def write(top: Path, size: int, files: int) -> None:
    """New files, no two alike."""
    dice = random.Random(SEED)
    block = dice.randbytes(max(size, 8) * 2)
    for number in range(files):
        directory = top / str(number // FILES_A_DIRECTORY)
        if number % FILES_A_DIRECTORY == 0:
            directory.mkdir(parents=True)
        start = dice.randrange(size)
        (directory / str(number)).write_bytes(number.to_bytes(8, "big") + block[start : start + size - 8])


def filled(site: Site, least: int) -> tuple[float, int]:
    """When the spool had all, at least so many bytes, and how large it is then."""
    before, at = -1, time.monotonic()
    while before < least or time.monotonic() - at < QUIET_S:
        size = int(site.work.status().get("spool_bytes", 0))
        if size != before:
            before, at = size, time.monotonic()
        time.sleep(0.02)
    return at, before


def alone(home: Path) -> tuple[float, float]:
    """Bytes a second into and out of the spool itself, by batches of 1 MiB and from the page cache."""
    home.mkdir()
    spool = Spool(home, Quota(1 << 40))
    data = random.Random(SEED).randbytes(APPEND_BYTES)
    begun = time.perf_counter()
    entries = [spool.append(EncodedBatch(number, number, data), 0) for number in range(1, APPENDS + 1)]
    between = time.perf_counter()
    for entry in entries:
        spool.read(entry)
    ended = time.perf_counter()
    spool.clear()
    total = APPENDS * APPEND_BYTES
    return total / (between - begun), total / (ended - between)


def render(runs: Sequence[Run], into: float, out: float) -> str:
    """The report in Markdown."""
    lines = [
        "# The spool",
        "",
        f"Written by `python bench/spool.py`. {os.cpu_count()} cores, kernel {os.uname().release}, "
        f"Python {sys.version.split()[0]}; two nodes with TLS over lo, `memory_limit` 2 MB. MB are 10⁶ bytes.",
        "",
        f"The file format alone, batches of 1 MiB: {into / MB:,.0f} MB/s in, {out / MB:,.0f} MB/s out, both with "
        "checksums.",
        "",
        "*Spooled*: from the first write, with the backup node away, until the spool has everything. *Drained*: from "
        "the start of the backup node until all is durable there. *Direct*: the same files with the link in place, "
        "from the first write until all is durable.",
        "",
        "| file bytes | files | MB | written s | spooled s | spooled MB/s | files a second | spool MB | drained s "
        "| drained MB/s | direct s |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        cells = [
            f"{run.size:,}",
            f"{run.files:,}",
            f"{run.changed / MB:,.0f}",
            f"{run.written_s:.1f}",
            f"{run.spooled_s:.1f}",
            f"{run.changed / MB / run.spooled_s:,.0f}",
            f"{run.files / run.spooled_s:,.0f}",
            f"{run.spool_bytes / MB:,.0f}",
            f"{run.drained_s:.1f}",
            f"{run.changed / MB / run.drained_s:,.0f}",
            f"{run.direct_s:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="more or fewer files")
    parser.add_argument("--report", type=Path, default=HERE / "spool.md")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="spool-", dir=os.environ.get("BENCH_DIR")) as place:
        home = Path(place)
        into, out = alone(home / "alone")
        loads = [(4096, 20_000), (65_536, 8_000), (1 << 20, 1_000)]
        runs = [measure(size, round(files * chosen.scale), home / str(size)) for size, files in loads]
    chosen.report.write_text(render(runs, into, out))
    print(f"written: {chosen.report}")


if __name__ == "__main__":
    main()
