"""Trees of unusual shape, i2 beside rsync: huge sparse files, and files with thousands of names.

python bench/shapes.py [--rsync-s 120]        as root; about five minutes; writes bench/shapes.md

BENCH_DIR is where it works: a file system that takes a file of 1 TiB (ext4, xfs, btrfs). rsync reads all of a sparse
file, holes too; after so many seconds it is ended.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from compare import Side, compile_modules, until
from memory import I2

HERE = Path(__file__).resolve().parent
GIB, TIB = 1 << 30, 1 << 40
NAMES, DAYS, DAY_NAMES = 4_000, 10, 2_000
RSYNC = ["rsync", "-aHAX", "--sparse", "--numeric-ids", "--delete"]


@attrs.frozen
class Row:
    """One task, done by one program."""

    task: str
    peer: str
    wall_s: float | None
    """None: it was ended before it was done."""
    cpu_s: float
    sent: int | None = None
    """Bytes of files that were sent; None: not known."""


class Bench:
    """Runs the tasks, and collects the rows."""

    def __init__(self, base: Path, rsync_s: float) -> None:
        self._base = base
        self._rsync_s = rsync_s
        self.rows: list[Row] = []

    def place(self, name: str) -> Path:
        """An empty source."""
        source = self._base / name / "source"
        source.mkdir(parents=True)
        return source

    def mirror(self, task: str, source: Path) -> None:
        """By i2 and by rsync, each into its own target."""
        self._run(task, "i2", self._side(source).command("--once", "--json"))
        if shutil.which("rsync"):
            self._run(task, "rsync", [*RSYNC, f"{source}/", f"{source.parent}/rsync/"], self._rsync_s)

    def live(self, task: str, source: Path, change: Callable[[], object], seen: Callable[[Path], bool]) -> None:
        """One change while i2 replicates, until it is seen on the replica."""
        side = self._side(source)
        with side.live() as cpu:
            before, begun = cpu(), time.perf_counter()
            change()
            until(lambda: seen(side.replica))
            wall_s = time.perf_counter() - begun
            time.sleep(1.0)  # what follows is a part of the cost
            self._add(Row(task, "i2", wall_s, cpu() - before))

    @staticmethod
    def _side(source: Path) -> Side:
        return Side("i2", I2, source.parent, source)

    def _run(self, task: str, peer: str, command: list[str], limit_s: float = 3600.0) -> None:
        begun = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL)
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                if time.perf_counter() - begun > limit_s:
                    process.terminate()
                    limit_s = float("inf")
                time.sleep(0.002)
            wall_s = time.perf_counter() - begun
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            told: dict[str, Any] = json.loads(said.read()) if peer == "i2" else {}
        done = process.returncode == 0
        if not done and limit_s != float("inf"):
            sys.exit(f"{task}: {peer} failed with exit code {process.returncode}")
        self._add(Row(task, peer, wall_s if done else None, used.ru_utime + used.ru_stime, told.get("wire_bytes")))

    def _add(self, row: Row) -> None:
        print(row, flush=True)
        self.rows.append(row)


def sparse(bench: Bench, size: int, name: str) -> None:
    """A file of that size with 64 pieces of data in it: whole, after a few bytes changed, and live."""
    source = bench.place(f"sparse-{size}")
    image = source / "image"
    with image.open("wb") as file:
        file.truncate(size)
        for piece in range(64):
            os.pwrite(file.fileno(), os.urandom(1 << 16), piece * (size // 64))

    def write(data: bytes, at: int) -> None:
        with image.open("r+b") as file:
            os.pwrite(file.fileno(), data, at)

    bench.mirror(f"sparse file of {name} with 4 MiB of data, first mirror", source)
    write(b"some bytes", size // 3)
    bench.mirror(f"sparse file of {name}, 10 bytes changed, mirrored again", source)
    at = size // 5

    def seen(replica: Path) -> bool:
        with (replica / "image").open("rb") as file:
            return os.pread(file.fileno(), 4, at) == b"more"

    bench.live(f"sparse file of {name}, 4 bytes changed, live", source, lambda: write(b"more", at), seen)


def many_names(bench: Bench) -> None:
    """One file with thousands of names."""
    source = bench.place("names")
    (source / "names").mkdir()
    (source / "file").write_bytes(b"x" * 4096)
    for number in range(NAMES - 1):
        (source / "names" / str(number)).hardlink_to(source / "file")
    bench.mirror(f"a file with {NAMES:,} names, first mirror", source)
    bench.mirror(f"a file with {NAMES:,} names, unchanged", source)

    def append() -> None:
        with (source / "names" / "7").open("ab") as file:
            file.write(b"y")

    def link() -> None:
        (source / "more").hardlink_to(source / "file")

    last = f"names/{NAMES - 2}"
    bench.live(f"a file with {NAMES:,} names, a byte more, live", source, append, lambda r: size_is(r / last, 4097))
    bench.live(f"a file with {NAMES:,} names, a name more, live", source, link, lambda r: size_is(r / "more", 4097))


def history(bench: Bench) -> None:
    """Backups by hard links, as `cp -al` makes them: each day the names of the day before, some files new."""
    source = bench.place("history")
    (source / "day0").mkdir()
    for number in range(DAY_NAMES):
        (source / "day0" / str(number)).write_bytes(b"%08d" % number * 64)

    def next_day(day: int) -> None:
        old, new = source / f"day{day - 1}", source / f"day{day}"
        new.mkdir()
        for number in range(DAY_NAMES):
            if number % 100 == day % 100:
                (new / str(number)).write_bytes(b"%08d" % (number + day) * 64)
            else:
                (new / str(number)).hardlink_to(old / str(number))

    for day in range(1, DAYS):
        next_day(day)
    bench.mirror(f"{DAYS} days of {DAY_NAMES:,} hard links, first mirror", source)
    next_day(DAYS)
    bench.mirror(f"{DAYS} days of {DAY_NAMES:,} hard links, one more day", source)
    last = f"day{DAYS + 1}"
    bench.live(
        f"{DAYS} days of {DAY_NAMES:,} hard links, one more day, live",
        source,
        lambda: next_day(DAYS + 1),
        lambda replica: (replica / last).is_dir() and len(os.listdir(replica / last)) == DAY_NAMES,
    )


def size_is(path: Path, size: int) -> bool:
    """True when the file is there, and has that size."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def render(rows: list[Row], rsync_s: float) -> str:
    """The report in Markdown."""
    by_task = {(row.task, row.peer): row for row in rows}
    lines = [
        "# Sparse files and hard links",
        "",
        f"Written by `python bench/shapes.py`. {os.cpu_count()} cores, kernel {os.uname().release}, "
        f"Python {sys.version.split()[0]}; rsync: `{' '.join(RSYNC)} SRC/ DST/`, ended after {rsync_s:.0f} s "
        '("-"). Live: from the change until it is seen on the replica.',
        "",
        "| task | i2, s | rsync, s | i2 ÷ rsync | i2, CPU s | rsync, CPU s | i2, bytes sent |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for task in dict.fromkeys(row.task for row in rows):
        ours, theirs = by_task[task, "i2"], by_task.get((task, "rsync"))
        assert ours.wall_s is not None
        cells = [f"{ours.wall_s:.3f}", "", "", f"{ours.cpu_s:.2f}", "", "" if ours.sent is None else f"{ours.sent:,}"]
        if theirs is not None:
            cells[1] = "-" if theirs.wall_s is None else f"{theirs.wall_s:.3f}"
            cells[2] = "-" if theirs.wall_s is None else f"{ours.wall_s / theirs.wall_s:.2f}"
            cells[4] = f"{theirs.cpu_s:.2f}"
        lines.append(f"| {task} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rsync-s", type=float, default=120.0)
    parser.add_argument("--report", type=Path, default=HERE / "shapes.md")
    chosen = parser.parse_args()
    compile_modules(HERE.parent)
    with tempfile.TemporaryDirectory(prefix="shapes-", dir=os.environ.get("BENCH_DIR")) as place:
        bench = Bench(Path(place), chosen.rsync_s)
        many_names(bench)
        history(bench)
        sparse(bench, 8 * GIB, "8 GiB")
        sparse(bench, TIB, "1 TiB")
    chosen.report.write_text(render(bench.rows, chosen.rsync_s))
    print(f"written: {chosen.report}")


if __name__ == "__main__":
    main()
