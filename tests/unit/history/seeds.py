"""One life by a seed, and several from the command line: ``python -m tests.unit.history.lives FIRST COUNT``."""

from __future__ import annotations

import importlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import trio

from i2core.history.record import recorder

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


@contextmanager
def in_order(seed: int) -> Iterator[None]:
    """The seed decides the order of all tasks, and what a thread does is one step of it: a power cut finds the files
    as they are between two steps."""
    run: Any = importlib.import_module("trio._core._run")
    run._r.seed(seed)
    in_order = patch.object(run, "_ALLOW_DETERMINISTIC_SCHEDULING", new=True)
    with in_order, patch.object(trio.to_thread, "run_sync", _at_once):
        yield


@contextmanager
def in_parts(seed: int) -> Iterator[None]:
    """The recorder takes few records at a time, so that while they are carried out the next ones are planned."""
    most = random.Random(f"parts {seed}").choice((1, 2, 3, 1000))  # noqa: S311
    with patch.object(recorder, "PART_RECORDS", most):
        yield


async def _at_once(work: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    await trio.lowlevel.checkpoint()
    done = work(*args)
    await trio.lowlevel.cancel_shielded_checkpoint()
    return done


def play(live: Callable[[int], tuple[int, ...]]) -> None:
    """Plays the lives that the command line names, and prints what they came to."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    lives = [live(seed) for seed in range(first, first + count)]
    print(*map(sum, zip(*lives, strict=True)), f"{time.monotonic() - began:.1f} s")
