"""Reading through a mount, beside the directory itself: 50,000 small files and one large file.

python bench/mount.py      a minute and 1.1 GiB beneath BENCH_DIR (default /dev/shm); writes bench/mount.md; needs root

Each way is measured in several rounds, each with a new mount; the figures are medians. The first pass asks the server,
the second finds what the kernel has kept. `server` is the CPU time of the serving process for the whole round: unlike
the other times it is nearly the same on a busy machine.
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
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROUNDS, DIRECTORIES, FILES, LARGE_MIB = 3, 500, 100, 1024
PIECE = 1 << 20
RANDOM_READS = 20_000


def make(top: Path) -> None:
    """The tree."""
    rng = random.Random(1)
    for number in range(DIRECTORIES):
        directory = top / f"d{number}"
        directory.mkdir(parents=True)
        for name in range(FILES):
            (directory / str(name)).write_bytes(rng.randbytes(rng.randrange(1, 8192)))
    piece = rng.randbytes(PIECE)
    with (top / "large").open("wb") as file:
        for _ in range(LARGE_MIB):
            file.write(piece)


def look(top: str) -> None:
    """Lists all directories and looks at each name."""
    for number in range(DIRECTORIES):
        with os.scandir(f"{top}/d{number}") as scan:
            for item in scan:
                item.stat()


def read(top: str) -> None:
    """Reads all small files."""
    for number in range(DIRECTORIES):
        for name in range(FILES):
            _read(f"{top}/d{number}/{name}")


def large(top: str) -> None:
    """Reads the large file."""
    _read(f"{top}/large")


def scattered(top: str) -> None:
    """Reads 4 KiB at random places of the large file."""
    rng = random.Random(2)
    fd = os.open(f"{top}/large", os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for _ in range(RANDOM_READS):
        os.pread(fd, 4096, rng.randrange(LARGE_MIB * 256) * 4096)
    os.close(fd)


def _read(path: str) -> None:
    buffer = bytearray(PIECE)
    fd = os.open(path, os.O_RDONLY)
    while os.readv(fd, (buffer,)):
        pass
    os.close(fd)


WORK: dict[str, Callable[[str], None]] = {
    "look at 50,000 files": look,
    "read 50,000 files": read,
    "20,000 random reads": scattered,
    "read 1 GiB": large,
}


def measured(top: str) -> list[float]:
    """Seconds of each kind of work, first and second pass."""
    found = []
    for work in WORK.values():
        for _ in range(2):
            begin = time.perf_counter()
            work(top)
            found.append(time.perf_counter() - begin)
    return found


def through_a_mount(top: Path, point: Path, *options: str) -> list[float]:
    """As `measured`, with the server's CPU time at the end."""
    command = [sys.executable, "-m", "i2core.mount", *options, str(top), str(point)]
    with subprocess.Popen(command) as server:
        while not (point / "large").exists():
            time.sleep(0.02)
        found = measured(str(point))
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
        found.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
        server.terminate()
    return found


def main() -> None:
    """Measures, and writes the table."""
    home = Path(tempfile.mkdtemp(prefix="i2-mount-", dir=os.environ.get("BENCH_DIR", "/dev/shm")))
    try:
        top, point = home / "top", home / "point"
        make(top)
        point.mkdir()
        ways: dict[str, Callable[[], list[float]]] = {
            "the directory itself": lambda: measured(str(top)),
            "a mount of what never changes": lambda: through_a_mount(top, point, "--fixed"),
            "a mount of what may change": lambda: through_a_mount(top, point),
        }
        results = {name: [way() for _ in range(ROUNDS)] for name, way in ways.items()}
    finally:
        shutil.rmtree(home)
    (HERE / "mount.md").write_text(table(results))


def table(results: dict[str, list[list[float]]]) -> str:
    """The medians as Markdown."""
    kinds = list(WORK)
    lines = [
        "# Reading through a mount",
        "",
        f"`python bench/mount.py`: medians of {ROUNDS} rounds in tmpfs, in seconds, first and second pass. `server` is",
        "the CPU time of the server for all of it, its start included.",
        "",
        f"| | {' | '.join(kinds)} | server |",
        f"|---|{'---|' * (len(kinds) + 1)}",
    ]
    for name, rounds in results.items():
        medians = [statistics.median(each) for each in zip(*rounds, strict=True)]
        cells = [f"{medians[2 * at]:.2f}, {medians[2 * at + 1]:.2f}" for at in range(len(kinds))]
        server = f"{medians[-1]:.1f}" if len(medians) > 2 * len(kinds) else ""
        lines.append(f"| {name} | {' | '.join(cells)} | {server} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
