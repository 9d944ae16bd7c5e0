"""Memory of a process that works for long: the allocator of C, and Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 64 * 1024 * 1024
"""Most bytes of freed memory that a process keeps for reuse."""


def keep_freed_memory() -> None:
    """Makes the C library reuse the memory of payloads instead of returning it to the kernel.

    By default, glibc maps each large buffer separately and unmaps it when it is freed. The page faults of a new MiB
    then cost more CPU than all other work on it. Other C libraries have no such call: there nothing is changed."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


@contextmanager
def frozen_startup() -> Iterator[None]:
    """Inside the block, the garbage collector ignores all objects that exist at its begin: modules, classes, functions.

    They live as long as the process, and there are far more of them than a run adds. Visiting them finds nothing. After
    a fork it also writes to each of them, so the kernel copies pages that both processes could share."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
