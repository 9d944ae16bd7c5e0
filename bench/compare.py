"""Two checkouts side by side: what a row costs in this one, and in an older one.

git worktree add /somewhere/old COMMIT && make -C /somewhere/old setup
python bench/compare.py /somewhere/old [--rounds 5] [--files 5000] [--large-mb 256] [--rows start,small,large,live]

The runs of both take turns, and each round begins with the other one, so that what else happens on the machine meets
both alike. Medians are shown; CPU time (user and system, of all processes of i2) is the figure to go by on a machine
that does other things as well. BENCH_DIR is where it works.
"""

from __future__ import annotations

import argparse
import compileall
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from idle import LIVE, cpu_s
from memory import family

HERE = Path(__file__).resolve().parent
PAGE = 4096
WAIT_S = 120.0
STEP_S = 0.0005


@attrs.frozen
class Cost:
    """Of one row, once."""

    wall_s: float
    cpu_s: float


@attrs.frozen
class Side:
    """One checkout, and where its runs have their files."""

    name: str
    i2: Path
    home: Path
    source: Path

    @property
    def replica(self) -> Path:
        """Its target."""
        return self.home / "replica"

    def command(self, *more: str) -> list[str]:
        """`i2 replicate` from the source to this side's replica."""
        words = ["replicate", str(self.source), str(self.replica), "--state-dir", str(self.home / "state"), *more]
        return [str(self.i2), *words]

    def once(self, *more: str) -> Cost:
        """A mirror; user and system time of both its processes."""
        return self.cost(self.command("--once", *more))

    def cost(self, command: Sequence[str], exit_code: int = 0) -> Cost:
        """Of a command that ends with this exit code."""
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != exit_code:
            sys.exit(f"{self.name}: {' '.join(command)} failed with exit code {process.returncode}")
        return Cost(time.perf_counter() - begun, used.ru_utime + used.ru_stime)

    @contextmanager
    def live(self) -> Iterator[Callable[[], float]]:
        """Replicates until the block ends; gives what tells the CPU time so far."""
        log = self.home / "log"
        with log.open("wb") as told, subprocess.Popen(self.command(), stdout=told, stderr=told) as process:
            try:
                until(lambda: LIVE in log.read_text() or process.poll() is not None)
                pids = family(process.pid)
                yield lambda: sum(cpu_s(pid) for pid in pids)
            finally:
                process.send_signal(signal.SIGINT)

    def fresh(self) -> None:
        """Neither replica nor state."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()


Rows = dict[str, Cost]


def until(condition: Callable[[], bool]) -> None:
    """Waits for it."""
    end = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"not within {WAIT_S:.0f} s")
        time.sleep(STEP_S)


def start(side: Side) -> Rows:
    """Commands that find nothing to do: imports are most of their cost."""
    side.fresh()
    side.once()
    nowhere = ["--state-dir", str(side.home / "nowhere")]
    return {
        "i2 --help": side.cost([str(side.i2), "--help"]),
        "i2 rule status, no daemon": side.cost([str(side.i2), "rule", "status", *nowhere], exit_code=1),
        "i2 replicate, one file, unchanged": side.once(),
    }


def small(side: Side, files: int) -> Rows:
    """Many files of 4 KiB: first, and again."""
    side.fresh()
    return {
        f"{files:,} × 4 KiB, first mirror": side.once(),
        f"{files:,} × 4 KiB, unchanged, quick": side.once(),
        f"{files:,} × 4 KiB, unchanged, strict": side.once("--verify", "strict"),
    }


def large(side: Side, size_mb: int, dice: random.Random) -> Rows:
    """One large file: first, and with pages patched."""
    side.fresh()
    rows = {f"{size_mb} MB in one file, first mirror": side.once()}
    with (side.source / "large").open("r+b") as file:
        for page in dice.sample(range(size_mb * 1_000_000 // PAGE), 50):
            os.pwrite(file.fileno(), dice.randbytes(PAGE), page * PAGE)
    rows[f"{size_mb} MB in one file, 50 pages changed"] = side.once()
    return rows


def live(side: Side, changes: int) -> Rows:
    """Changes one at a time, each until it is seen; then a burst."""
    side.fresh()
    source, replica = side.source / "live", side.replica / "live"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir()
    rows: Rows = {}
    with side.live() as cpu:
        for what in ("created", "replaced", "appended"):
            waits, before = [], cpu()
            for number in range(changes):
                path, there = source / f"f{number}", replica / f"f{number}"
                data = f"{what} {number}".encode().ljust(1000 + len(what))
                begun = time.perf_counter()
                change(path, data, what)
                size = path.stat().st_size
                until(lambda there=there, size=size: size_of(there) == size)  # type: ignore[misc]
                waits.append(time.perf_counter() - begun)
            used = (cpu() - before) / changes
            rows[f"live, one file {what} until seen (a change)"] = Cost(statistics.median(waits), used)
        before, begun = cpu(), time.perf_counter()
        for number in range(changes * 10):
            (source / f"burst{number}").write_bytes(b"x" * PAGE)
        until(lambda: size_of(replica / f"burst{changes * 10 - 1}") == PAGE)
        rows[f"live, a burst of {changes * 10:,} files"] = Cost(time.perf_counter() - begun, cpu() - before)
    return rows


def change(path: Path, data: bytes, what: str) -> None:
    """One change of the kind."""
    if what == "appended":
        with path.open("ab") as file:
            file.write(data)
    elif what == "replaced":
        aside = path.with_suffix(".new")
        aside.write_bytes(data)
        aside.replace(path)
    else:
        path.write_bytes(data)


def size_of(path: Path) -> int:
    """-1 when there is no such file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def make_sources(base: Path, files: int, size_mb: int) -> dict[str, Path]:
    """A source for each group of rows."""
    dice = random.Random(1)
    sources = {name: base / f"source-{name}" for name in ("start", "small", "large", "live")}
    for number in range(files):
        directory = sources["small"] / str(number // 500)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(dice.randbytes(PAGE))
    sources["start"].mkdir()
    (sources["start"] / "file").write_bytes(dice.randbytes(PAGE))
    sources["large"].mkdir()
    with (sources["large"] / "large").open("wb") as file:
        for _ in range(size_mb):
            file.write(dice.randbytes(1_000_000))
    sources["live"].mkdir()
    return sources


def compile_modules(checkout: Path) -> None:
    """As `run.py` does: modules that are compiled anew at each start would cost more than what is measured."""
    for part in ("i2core", "plugins"):
        compileall.compile_dir(checkout / part, quiet=1)


def commit_of(checkout: Path) -> str:
    """As git names it."""
    told = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()


def render(found: dict[str, dict[str, list[Cost]]], names: list[str]) -> str:
    """A Markdown table of medians."""
    old, new = names
    lines = [
        f"| row | wall s, {old} | wall s, {new} | new ÷ old | CPU s, {old} | CPU s, {new} | new ÷ old | range |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row, sides in found.items():
        wall = [statistics.median(cost.wall_s for cost in sides[name]) for name in names]
        cpu = [statistics.median(cost.cpu_s for cost in sides[name]) for name in names]
        ratios = [b.cpu_s / a.cpu_s if a.cpu_s else 1.0 for a, b in zip(sides[old], sides[new], strict=True)]
        cells = [f"{wall[0]:.4f}", f"{wall[1]:.4f}", f"{wall[1] / wall[0]:.2f}", f"{cpu[0]:.4f}", f"{cpu[1]:.4f}"]
        cells += [f"{cpu[1] / cpu[0]:.2f}" if cpu[0] else "-", f"{min(ratios):.2f} - {max(ratios):.2f}"]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout with its own .venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=5_000)
    parser.add_argument("--large-mb", type=int, default=256)
    parser.add_argument("--changes", type=int, default=200, help="of each kind, live")
    parser.add_argument("--rows", default="start,small,large,live")
    chosen = parser.parse_args()
    checkouts = {"old": chosen.other.resolve(), "new": HERE.parent}
    for name, checkout in checkouts.items():
        compile_modules(checkout)
        print(f"{name}: {commit_of(checkout)} in {checkout}", flush=True)
    groups = chosen.rows.split(",")
    found: dict[str, dict[str, list[Cost]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="compare-", dir=os.environ.get("BENCH_DIR")) as place:
        base = Path(place)
        sources = make_sources(base, chosen.files, chosen.large_mb)
        for number in range(chosen.rounds):
            for group in groups:
                for name in list(checkouts)[:: 1 if number % 2 else -1]:
                    side = Side(name, checkouts[name] / ".venv/bin/i2", base / name, sources[group])
                    if group == "start":
                        rows = start(side)
                    elif group == "small":
                        rows = small(side, chosen.files)
                    elif group == "large":
                        rows = large(side, chosen.large_mb, random.Random(number))
                    else:
                        rows = live(side, chosen.changes)
                    for row, cost in rows.items():
                        found[row][name].append(cost)
            print(f"round {number + 1} of {chosen.rounds} done", file=sys.stderr, flush=True)
    print(render(found, list(checkouts)))


if __name__ == "__main__":
    main()
