"""How long it takes to get a tree back: the engine of recoveries beside cp, rsync, and, if installed, restic and borg.

python bench/recovery.py [FILES] [MIB]

Two workloads, from fixed seeds: FILES files of 4 KiB in 100 directories (50,000), and one file of MIB random MiB
(2,048). Each is brought to an empty directory, and once more with nothing changed; wall time without and with a sync
after it, the median of ROUNDS runs whose order changes from round to round. BENCH_DIR says where (the default is the
directory for temporary files); BENCH_ROUNDS how often (3). As root, so that owners are set.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trio

from i2core.posix.tree import LocalTree
from i2core.recovery.engine import Recovery
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Order
from i2core.recovery.parts import Root, parts_of

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
Run = Callable[[Path, Path], None]


def make_small(top: Path, files: int) -> None:
    rng = random.Random(3)
    for number in range(100):
        (top / f"d{number:03d}").mkdir(parents=True)
    for number in range(files):
        (top / f"d{number % 100:03d}" / f"f{number:06d}").write_bytes(rng.randbytes(4096))


def make_large(top: Path, mib: int) -> None:
    rng = random.Random(1)
    top.mkdir()
    with (top / "large").open("wb") as file:
        for _ in range(mib):
            file.write(rng.randbytes(1 << 20))


def command(*words: str) -> Run:
    """A program that copies: ``{src}`` and ``{dst}`` are replaced."""

    def run(src: Path, dst: Path) -> None:
        subprocess.run([word.format(src=src, dst=dst) for word in words], check=True, stdout=subprocess.DEVNULL)

    return run


def recovery(*, prove: bool) -> Run:
    """The engine, reading a local directory; the destination is written by a process of its own."""

    def run(src: Path, dst: Path) -> None:
        tree = LocalTree(os.fsencode(src))
        parts = parts_of([Root(tree=tree, path=tree.path)])
        order = Order(rule="bench", moment="now", parts=parts, prove=prove)
        with tempfile.TemporaryDirectory() as state:
            place = Path(state) / "recoveries"
            end = LocalEnd(os.fsencode(dst), state_dir=Path(state), place=place, say=lambda *_: None)
            one = Recovery(order, end, place=place, say=lambda *_: None)
            assert trio.run(one.run).equal
        tree.close()

    return run


@contextmanager
def repository(name: str, src: Path, work: Path) -> Iterator[Run]:
    """A backup of `src` by restic or borg; what it gives restores it."""
    place = work / f"{name}-{src.name}"
    os.environ |= {"RESTIC_PASSWORD": "bench", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    if name == "restic":
        for words in (["init"], ["backup", str(src)]):
            subprocess.run(["restic", "-q", "-r", str(place), *words], check=True)
        yield command("restic", "-q", "-r", str(place), "restore", "latest", "--target", "{dst}")
    else:
        subprocess.run(["borg", "init", "-e", "none", str(place)], check=True)
        subprocess.run(["borg", "create", f"{place}::one", "."], cwd=src, check=True)

        def extract(_src: Path, dst: Path) -> None:
            dst.mkdir(exist_ok=True)
            subprocess.run(["borg", "extract", f"{place}::one"], cwd=dst, check=True)

        yield extract
    shutil.rmtree(place)


def seconds(run: Run, src: Path, dst: Path) -> tuple[float, float]:
    """Wall time until it ends, and until all is on the disk."""
    begin = time.perf_counter()
    run(src, dst)
    ended = time.perf_counter()
    os.sync()
    return ended - begin, time.perf_counter() - begin


def measure(runs: dict[str, Run], src: Path, work: Path) -> None:
    """Prints a table."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    names = list(runs)
    for number in range(ROUNDS):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            dst = work / f"to-{name.replace(' ', '-')}-{number}"
            os.sync()
            first, durable = seconds(runs[name], src, dst)
            again, _ = seconds(runs[name], src, dst)
            found[name].append((first, durable, again))
    print(f"\n{src.name}\n\n| program | to an empty directory, s | with sync, s | again, s |\n|---|---|---|---|")
    for name, times in found.items():
        print(f"| {name} | " + " | ".join(f"{statistics.median(each):.1f}" for each in zip(*times, strict=True)) + " |")


def main() -> None:
    files, mib = ([int(word) for word in sys.argv[1:]] + [50_000, 2048][len(sys.argv) - 1 :])[:2]
    with tempfile.TemporaryDirectory(prefix="i2-bench-", dir=os.environ.get("BENCH_DIR")) as directory:
        work = Path(directory)
        make_small(work / "small", files)
        make_large(work / "large", mib)
        for src in (work / "small", work / "large"):
            runs: dict[str, Run] = {
                "cp -a": command("cp", "-a", "-T", "{src}", "{dst}"),
                "rsync -aHAX": command("rsync", "-aHAX", "{src}/", "{dst}/"),
                "i2": recovery(prove=False),
                "i2 with proof": recovery(prove=True),
            }
            runs = {name: run for name, run in runs.items() if name.startswith("i2") or shutil.which(name.split()[0])}
            with ExitStack() as stack:
                for name in ("restic", "borg"):
                    if shutil.which(name):
                        runs[name] = stack.enter_context(repository(name, src, work))
                measure(runs, src, work)
            for each in work.glob("to-*"):
                shutil.rmtree(each)


if __name__ == "__main__":
    main()
