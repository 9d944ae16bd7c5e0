"""Objects that cannot be read now because of a passing error: they are checked again, with growing waits, and never
left out.

Descriptors and memory may be exhausted for a moment. A file under a lease (Samba's oplocks, NFS delegations) cannot be
opened until its holder releases it. An NFS handle goes stale. None of these errors concerns the object itself, and
nobody has to act. An object that cannot be read because of a disk error is reported as left out, and retried as well.

Such an error is met in a worker thread, which leaves a mark (`put_off`). The trio thread collects the marks (`take_up`)
and gets them back when their wait is over (`due`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import attrs
import trio

from i2core.api import Place

FIRST_S, LONGEST_S = 0.1, 60.0
"""First and longest wait before an object is checked again; each wait doubles, with jitter."""
LASTS = 4
"""Failures before it is reported."""
FORGET_S = 30.0
"""After so long without a failure, earlier failures of an object are forgotten."""
MOST = 10_000
"""At most so many marks are kept one by one; beyond that whole roots are compared again."""


@attrs.frozen(eq=False)
class PutOff:
    """A place that is to be checked again."""

    place: Place
    cause: str
    error: int
    """An errno."""
    mark: object = None
    """More that is known about the change; None: only the place."""


@attrs.define
class _Waiting:
    due: float
    put_off: list[PutOff] = attrs.field(factory=list)
    tries: int = 0


class Passing:
    """The places of one rule that cannot be read now."""

    def __init__(self) -> None:
        self.lasting: Callable[[Place, str], None] = lambda place, cause: None
        """Called when a place stays unreadable: once for each cause, until all could be read again for a while."""
        self._looked_at = -FORGET_S
        self._inbox: deque[PutOff] = deque()
        self._waiting: dict[Place, _Waiting] = {}
        self._tried: dict[Place, _Waiting] = {}
        """Places that are being checked, until they are put off again or there was no failure for a while."""
        self._told: set[int] = set()

    def __len__(self) -> int:
        """How many have failed so often that they count as lasting."""
        return sum(each.tries >= LASTS for each in self._waiting.values())

    @property
    def idle(self) -> bool:
        """True when no place waits or is being checked."""
        return not (self._waiting or self._inbox)

    @property
    def due_at(self) -> float:
        """When the next one is to be checked, by trio's clock; infinite: none waits."""
        if self._inbox:
            return trio.current_time()
        return min((each.due for each in self._waiting.values()), default=float("inf"))

    def put_off(self, what: PutOff) -> None:
        """Notes a place that cannot be read now. From any thread."""
        self._inbox.append(what)

    def take_up(self) -> None:
        """Places that were put off since the last call begin to wait."""
        now = trio.current_time()
        if not self._inbox and not self._waiting and now - self._looked_at > FORGET_S:
            self._tried.clear()
            self._told.clear()
        while self._inbox:
            what = self._inbox.popleft()
            if len(self._waiting) >= MOST and what.place not in self._waiting:
                what = PutOff(Place(what.place.root, b""), what.cause, what.error)
            before = self._tried.pop(what.place, None)
            waiting = self._waiting.get(what.place)
            if waiting is None:
                tries = 1 if before is None else before.tries + 1
                wait_s = min(FIRST_S * 2 ** min(tries - 1, 20), LONGEST_S) * random.uniform(0.75, 1.25)  # noqa: S311
                waiting = self._waiting[what.place] = _Waiting(now + wait_s, tries=tries)
            waiting.put_off.append(what)
            if waiting.tries >= LASTS and what.error not in self._told:
                self._told.add(what.error)
                self.lasting(what.place, what.cause)

    def due(self) -> list[PutOff]:
        """Removes and returns those whose wait is over."""
        now = trio.current_time()
        places = [place for place, each in self._waiting.items() if each.due <= now]
        found: list[PutOff] = []
        for place in places:
            waiting = self._waiting.pop(place)
            found += waiting.put_off
            if len(self._tried) >= MOST:
                self._tried.clear()
            self._tried[place] = waiting
            self._looked_at = now
        return found

    def clear(self) -> None:
        """Forgets all: everything is compared again."""
        self._inbox.clear()
        self._waiting.clear()
