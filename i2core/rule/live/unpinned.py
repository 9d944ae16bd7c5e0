"""Objects that have lost a pin (an immutable flag, for example). They are checked again, because setting the flag again
raises no event.

An immutable file is changed in three steps: ``chattr -i f``, write, ``chattr +i f``. The write raises an event, and the
check after it often runs before the second chattr, which Linux does not report. Without another check, the replica's
file would lack the flag until the paced scan, an hour later. So such an object is checked after one second, two, four,
and so on: seldom enough to cost nothing, and soon after a script ends or an editor is closed.
"""

from __future__ import annotations

from collections import deque

import attrs
import trio

from i2core.api import Place
from i2core.api.inode_flags import PINS, UNREAD, flags_of
from i2core.rule.live.part import NEVER, Part

FIRST_S, LONGEST_S = 1.0, 2048.0
"""First and longest wait before a check; each wait doubles. After the last one the paced scan does the rest."""
MOST = 10_000
"""At most so many objects are checked again; others are left to the paced scan."""


@attrs.define
class _Wait:
    due: float
    wait_s: float = FIRST_S


class Unpinned(Part):
    """Places to be checked again. They count as no lag: as far as is known, source and replica are equal."""

    def __init__(self) -> None:
        self._inbox: deque[tuple[Place, bool]] = deque()
        """Places that were unpinned (True) or pinned again (False); written by the thread of a job."""
        self._waiting: dict[Place, _Wait] = {}

    @property
    def oldest_ns(self) -> int | None:
        """None: nothing is known to differ."""
        return None

    @property
    def due_at(self) -> float:
        """When the next one is to be checked."""
        if self._inbox:
            return trio.current_time()
        return min((each.due for each in self._waiting.values()), default=NEVER)

    def seen(self, place: Place, before: int, now: int) -> None:
        """An object was sent with the inode flags `before`, and has these `now`. From any thread."""
        if UNREAD in (before, now):
            return
        pinned = bool(flags_of(now) & PINS)
        if pinned or flags_of(before) & PINS:
            self._inbox.append((place, not pinned))

    def take(self) -> list[Place]:
        """Returns those whose wait is over; each is returned again later, until it is pinned or was checked often."""
        now = trio.current_time()
        while self._inbox:
            place, unpinned = self._inbox.popleft()
            if not unpinned:
                self._waiting.pop(place, None)
            elif len(self._waiting) < MOST:
                self._waiting[place] = _Wait(now + FIRST_S)
        due = [place for place, each in self._waiting.items() if each.due <= now]
        for place in due:
            wait_s = self._waiting[place].wait_s * 2
            if wait_s > LONGEST_S:
                del self._waiting[place]
            else:
                self._waiting[place] = _Wait(now + wait_s, wait_s)
        return due
