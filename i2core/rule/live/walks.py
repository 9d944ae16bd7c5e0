"""Subtrees that are being compared with the catalog, a step at a time between live changes."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import attrs

from i2core.api import Place
from i2core.api.tree import RootGone
from i2core.rule.live.output import Output
from i2core.rule.survey.lister import is_within

WALK_S = 0.02
"""A job ends after its walks have run for so long, so that live changes are not delayed."""

Steps = Generator[None, None, None]


@attrs.frozen(eq=False)
class _Walk:
    """A subtree that is to be compared with the catalog; `top` is None for other long work. `ahead`: until the walk
    begins, directories that it will reach, so that they need no walk of their own."""

    since_ns: int
    steps: Steps
    top: Place | None = None
    ahead: set[Place] = attrs.field(factory=set)


class Walks:
    """Walks, the oldest first."""

    def __init__(self, output: Output, walk: Callable[[Place], Steps], lose_root: Callable[[RootGone], None]) -> None:
        """`walk` begins the compare of a subtree; `lose_root` is called when a root is gone in the middle of it."""
        self._output = output
        self._walk = walk
        self._lose_root = lose_root
        self._walks: deque[_Walk] = deque()
        self._ahead: dict[Place, _Walk] = {}
        """The directories that the walks which have not begun will reach."""
        self._tops = Counter[Place]()
        """The subtrees of all walks."""
        self._found: list[Place] | None = None
        """During a step of a walk: more directories for it to walk."""

    def __len__(self) -> int:
        return len(self._walks)

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest of the subtrees was reported; None: there are none."""
        return min((each.since_ns for each in self._walks), default=None)

    @property
    def stepping(self) -> bool:
        """True during a step: objects are found by walking, not by a report."""
        return self._found is not None

    def concern(self, place: Place) -> bool:
        """True while a subtree in which this place lies is compared: nobody knows whether it has been reached."""
        return bool(self._tops) and is_within(place, self._tops)

    def close(self) -> None:
        """Ends the walks, each of which holds a directory open."""
        for begun in self._walks:
            begun.steps.close()
        self._walks.clear()
        self._ahead.clear()
        self._tops.clear()

    def soon(self, top: Place) -> None:
        """This subtree is to be compared."""
        if self._found is not None:
            self._found.append(top)
            return
        # Otherwise, in a chain of new directories each one would be walked again from every directory above it.
        before = self._ahead.get(top) or (self._ahead.get(top.above) if top.path else None)
        if before is None:
            before = _Walk(self._output.since_ns, self._walk(top), top)
            self._walks.append(before)
            self._tops[top] += 1
        before.ahead.add(top)
        self._ahead[top] = before

    def add(self, steps: Steps) -> None:
        """Adds other long work, which proceeds a step at a time like a walk."""
        self._walks.append(_Walk(self._output.since_ns, steps))

    def go_on(self) -> None:
        """Takes steps until there is enough to send or the time is up."""
        until = time.monotonic() + WALK_S
        while self._walks and not self._output.made.full and time.monotonic() < until:
            self._step(self._walks[0])

    @contextmanager
    def found_in(self, todo: list[Place]) -> Iterator[None]:
        """During the body, new directories are added to `todo` of the running walk. With a walk of their own they would
        be walked only after this walk has removed missing names, and an object that has moved into them would be
        removed and sent again."""
        self._found = todo
        try:
            yield
        finally:
            self._found = None

    def _step(self, first: _Walk) -> None:
        """The next step of the first walk."""
        self._output.work_for(first.since_ns)
        for place in first.ahead:
            del self._ahead[place]
        first.ahead.clear()
        try:
            next(first.steps)
        except StopIteration:
            self._end_first()
        except RootGone as gone:
            self._end_first()
            self._lose_root(gone)

    def _end_first(self) -> None:
        top = self._walks.popleft().top
        if top is not None:
            self._tops[top] -= 1
            if not self._tops[top]:
                del self._tops[top]
