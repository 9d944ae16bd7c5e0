"""One life by a seed, and several from the command line: ``python -m tests.unit.history.lives FIRST COUNT``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Many small files of SQLite; nothing here has to survive."""


@contextmanager
def seeded(seed: int) -> Iterator[str]:
    """A directory for the files of a life. What goes wrong there is told with the seed."""
    with tempfile.TemporaryDirectory(prefix="i2-life-", dir=MEMORY) as directory:
        try:
            yield directory
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def play(live: Callable[[int], tuple[int, ...]]) -> None:
    """Plays the lives that the command line names, and prints what they came to."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    lives = [live(seed) for seed in range(first, first + count)]
    print(*map(sum, zip(*lives, strict=True)), f"{time.monotonic() - began:.1f} s")
