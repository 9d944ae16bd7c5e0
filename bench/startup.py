"""How long a command takes that does nothing: every `i2 rule status` in a script pays this.

python bench/startup.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

I2 = Path(sys.executable).with_name("i2")


def median_s(command: Sequence[str], runs: int) -> float:
    """Median wall time of `command` in seconds; the first run, which fills caches, is not counted."""
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for command in ([sys.executable, "-c", "pass"], [str(I2), "--help"], [str(I2), "plugins", "list"]):
        words = " ".join([Path(command[0]).name, *command[1:]])
        print(f"{words:24s} {median_s(command, runs) * 1000:7.1f} ms")


if __name__ == "__main__":
    main()
