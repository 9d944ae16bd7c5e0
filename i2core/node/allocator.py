"""Settings of the C allocator that fit a process which moves payloads of about a mebibyte all day."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 64 * 1024 * 1024
"""Freed memory kept for reuse at most, in each process."""


def keep_freed_memory() -> None:
    """Reuses the memory of payloads instead of giving it back.

    glibc maps each large buffer afresh and unmaps it when freed; the page faults of a new mebibyte cost more than all
    else that is done with it. Other C libraries have no such call: nothing happens there.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES // 2)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
