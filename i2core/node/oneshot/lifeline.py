"""Ends a child process with its parent, so that no daemon or backup role outlives its command."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int, signum: signal.Signals = signal.SIGTERM) -> None:
    """Call this first in a child: the kernel then sends `signum` when the parent's forking thread ends.

    `parent` is the pid that the child was forked from. Call it from the main thread of a parent that forked in its
    main thread: prctl(2) PR_SET_PDEATHSIG follows the thread, not the process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:  # the parent ended before prctl: no signal will come
        os.kill(os.getpid(), signum)
