"""Settings of the C allocator for a process that handles many payloads of about one MiB."""

from __future__ import annotations

import ctypes

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
