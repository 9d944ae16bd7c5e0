"""Locks between processes, flock(2): the kernel releases those of a process that dies, and nothing is written."""

from __future__ import annotations

import fcntl


def lock(fd: int, *, alone: bool) -> bool:
    """Locks what is open as `fd`, exclusively (`alone`) or shared; replaces the lock that the descriptor has. Does not
    wait: False when another process has a lock that forbids it.

    Raises:
        OSError: the file system knows no locks.
    """
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
