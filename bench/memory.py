"""Peak memory of each process of `i2 replicate --once`, by number of files: it must not grow with them.

python bench/memory.py [FILES…]        default: 1000 50000; try 1000000 too (needs 8 GB of disk, some minutes)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

I2 = Path(sys.executable).with_name("i2")
WORK = Path(__file__).resolve().parent / "work"
FILES_PER_DIRECTORY = 1000
SAMPLE_S = 0.02


def make_tree(root: Path, files: int) -> None:
    """`files` files of 64 bytes, a thousand to a directory."""
    for first in range(0, files, FILES_PER_DIRECTORY):
        directory = root / f"d{first // FILES_PER_DIRECTORY:05d}"
        directory.mkdir(parents=True)
        for number in range(first, min(first + FILES_PER_DIRECTORY, files)):
            (directory / f"f{number:07d}").write_bytes(b"%064d" % number)


def family(pid: int) -> list[int]:
    """The process and all beneath it, parents first."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue  # the thread ended between glob and read
    return found


def peak_rss_kib(pid: int) -> int | None:
    """The kernel's own high-water mark (VmHWM), so that sampling misses no peak; None for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def measure(files: int, base: Path) -> None:
    """Mirrors a tree of `files` files, and prints a line for each process that took part."""
    source, target = base / "source", base / "target"
    source.mkdir()
    target.mkdir()
    make_tree(source, files)
    begin = time.monotonic()
    peaks: dict[int, int] = {}
    command = [str(I2), "replicate", str(source), str(target), "--once", "--state-dir", str(base / "state")]
    log = base / "log"
    with log.open("wb") as told, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told) as process:
        while process.poll() is None:
            for pid in family(process.pid):
                peak = peak_rss_kib(pid)
                if peak is not None:
                    peaks[pid] = peak
            time.sleep(SAMPLE_S)
    if process.returncode:
        sys.exit(f"i2 replicate failed with exit code {process.returncode}: {log.read_text()}")
    shares = ", ".join(f"{peak / 1024:.1f} MiB" for peak in peaks.values())
    print(f"{files:9,d} files  {time.monotonic() - begin:7.2f} s  peak of each process: {shares}", flush=True)


def main() -> None:
    WORK.mkdir(exist_ok=True)
    for files in [int(word.replace(",", "")) for word in sys.argv[1:]] or [1_000, 50_000]:
        base = Path(tempfile.mkdtemp(prefix="memory-", dir=WORK))
        try:
            measure(files, base)
        finally:
            shutil.rmtree(base)


if __name__ == "__main__":
    main()
