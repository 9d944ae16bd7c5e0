"""Turns at the index: readers of the past and the one writer use it one at a time.

A plain lock would do, but for one thing: a reader that asks again at once gets it again, for a thread that waits is
woken more slowly than that. So a recovery that reads without a pause would hold up the replication. Therefore whoever
writes also closes a gate while it waits, and each reader has to pass this gate first.
"""

from __future__ import annotations

import errno
import threading
from contextlib import AbstractContextManager


class HistoryClosed(OSError):
    """The history was closed, or is opened again: the read failed."""

    def __init__(self) -> None:
        super().__init__(errno.EUCLEAN, "the history was closed")


class Turn(AbstractContextManager[None]):
    """One kind of turn; may be entered again and again, from any thread, but not within itself."""

    def __init__(self, turns: Turns, *, first: bool) -> None:
        """`first`: nobody who comes later gets the lock before."""
        self._turns, self._first = turns, first

    def __enter__(self) -> None:
        """Raises HistoryClosed."""
        gate, lock = self._turns.gate, self._turns.lock
        with gate:
            if self._first:
                lock.acquire()
        if not self._first:
            lock.acquire()
        if self._turns.is_closed:
            lock.release()
            raise HistoryClosed

    def __exit__(self, *error: object) -> None:
        self._turns.lock.release()


class Turns:
    """A turn is never held over an `await`."""

    def __init__(self) -> None:
        self.gate, self.lock = threading.Lock(), threading.Lock()
        self.is_closed = False
        self.reading = Turn(self, first=False)
        self.writing = Turn(self, first=True)

    def close(self) -> None:
        """Within the last turn: nobody gets another one."""
        self.is_closed = True
