"""CPU time that a live `i2 replicate` takes while nothing changes: of the work side and of the backup side.

python bench/idle.py [FILES] [SECONDS]        default: 50000 files, 60 seconds; the goal is below 0.5 % of a core

BENCH_DIR names a place on a file system where nobody else works: fanotify tells of a whole file system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import I2, family, make_tree

LIVE = "(Ctrl-C ends)"
"""Ends the line that says that the mirror is done."""
START_S, SETTLE_S = 120.0, 10.0
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of one process so far, with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def wait_until_live(log: Path, process: subprocess.Popen[bytes]) -> None:
    """Returns when the command has said that it replicates."""
    end = time.monotonic() + START_S
    while LIVE not in log.read_text():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit(f"i2 replicate did not come to replicate: {log.read_text()}")
        time.sleep(0.1)


def main() -> None:
    given = [int(word.replace(",", "")) for word in sys.argv[1:3]]
    files, seconds = given + [50_000, 60][len(given) :]
    base = Path(tempfile.mkdtemp(prefix="idle-", dir=os.environ.get("BENCH_DIR")))
    source, target, log = base / "source", base / "target", base / "log"
    source.mkdir()
    target.mkdir()
    make_tree(source, files)
    command = [str(I2), "replicate", str(source), str(target), "--state-dir", str(base / "state")]
    try:
        with (
            log.open("wb") as told,
            subprocess.Popen(
                command, stdout=told, stderr=told, env=dict(os.environ, LANG="C.UTF-8", LC_ALL="C.UTF-8")
            ) as process,
        ):
            try:
                wait_until_live(log, process)
                time.sleep(SETTLE_S)
                pids = family(process.pid)
                before = [cpu_s(pid) for pid in pids]
                time.sleep(seconds)
                for role, pid, at in zip(("work", "backup"), pids, before, strict=True):
                    used = cpu_s(pid) - at
                    print(f"{role:6s} {used:6.2f} CPU s in {seconds} s: {used / seconds:7.2%} of a core", flush=True)
            finally:
                process.terminate()
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
