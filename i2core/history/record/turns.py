"""Turns at the index: readers of the past and the one writer use it one at a time.

A plain lock would do, but for one thing: a reader that asks again at once gets it again, for a thread that waits is
woken more slowly than that. So a recovery that reads without a pause would hold up the replication. Therefore whoever
writes also closes a gate while it waits, and each reader has to pass this gate first.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager


class Turn(AbstractContextManager[None]):
    """One kind of turn; may be entered again and again, from any thread, but not within itself."""

    def __init__(self, gate: threading.Lock, lock: threading.Lock, *, first: bool) -> None:
        """`first`: nobody who comes later gets the lock before."""
        self._gate, self._lock, self._first = gate, lock, first

    def __enter__(self) -> None:
        with self._gate:
            if self._first:
                self._lock.acquire()
                return
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


class Turns:
    """A turn is never held over an `await`."""

    def __init__(self) -> None:
        gate, lock = threading.Lock(), threading.Lock()
        self.reading = Turn(gate, lock, first=False)
        self.writing = Turn(gate, lock, first=True)
