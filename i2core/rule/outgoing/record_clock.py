"""The time of a rule's records, for the history of its replica."""

from __future__ import annotations

import time
from collections.abc import Callable

BEHIND_NS = 10 * 10**9
"""A system clock that is so far behind is reported; time servers correct it by less."""


def shown_time(time_ns: int) -> str:
    """The time for people, in the node's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 10**9))


class RecordClock:
    """The system clock of the work node, except that it never goes back: when the system clock is set back, it stands
    still until that has passed it.

    The case that breaks otherwise: at 10:00 a file is changed, the clock is set back by an hour, and at 9:01 by the
    new time the file is changed again. The state "at 9:30" would contain the second change without the first."""

    def __init__(self, behind: Callable[[int], None]) -> None:
        """`behind` receives the time at which the clock stands still, once each time the system clock is found to be
        far behind it."""
        self._behind = behind
        self._last_ns = 0
        self._note: Callable[[int], None] = _ignored
        self._told = False

    def begin(self, last_ns: int, note: Callable[[int], None]) -> None:
        """A run begins; the one before has noted `last_ns`. `note` receives each time, to be kept for the next run; the
        last one at once, since the catalog of the run before may have been lost."""
        self._last_ns = max(self._last_ns, last_ns)
        self._note = note
        note(self._last_ns)

    def now(self) -> int:
        """The time in ns since the epoch."""
        system_ns = time.time_ns()
        if system_ns >= self._last_ns:
            self._last_ns, self._told = system_ns, False
        elif not self._told and system_ns < self._last_ns - BEHIND_NS:
            self._told = True
            self._behind(self._last_ns)
        self._note(self._last_ns)
        return self._last_ns


def _ignored(_time_ns: int) -> None:
    pass
