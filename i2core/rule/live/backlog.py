"""All work of live replication that is not done.

Four questions concern the same work: how old is the lag, is everything replicated, is there something to do, may a run
end? If each question listed the containers by name, one of them would be forgotten sooner or later: status would report
a lag of 0 while a change waits, and no test would notice. So each kind of work is a field of `Backlog`, and each
question goes to all fields. A new kind of work is a new field; the questions need no change.
"""

from __future__ import annotations

import time
from collections import deque

import attrs

from i2core.api import Place
from i2core.rule.catalog.rows import Doubt
from i2core.rule.live.directories import Directories
from i2core.rule.live.dirty import DirtySet, Mark
from i2core.rule.live.in_transit import InTransit
from i2core.rule.live.large_files import LargeFileQueue
from i2core.rule.live.part import Part
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.live.unpinned import Unpinned
from i2core.rule.live.unverified import Unverified
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.source.draft import Large
from i2core.rule.source.passing import Passing, PutOff
from i2core.wire.batch import EncodedBatch


class InWork(Part):
    """Marks that a job has taken, and subtrees that are being compared with the catalog."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler
        self.marks: deque[Mark] = deque()
        self._oldest_ns: int | None = None

    @property
    def oldest_ns(self) -> int | None:
        """While a job runs: the age from before the job. The job removes marks in its thread, and its records have an
        age of their own only once they are kept. In between the reported lag would be 0."""
        return self._oldest_ns

    def look(self) -> None:
        """Updates the age: a job begins, or its records are kept."""
        ages = [mark.since_ns for mark in self.marks]
        if self._reconciler.walks.oldest_ns is not None:
            ages.append(self._reconciler.walks.oldest_ns)
        self._oldest_ns = min(ages, default=None)


class Unsent(Part):
    """Batches of the last job, which are sent while the next one works."""

    def __init__(self) -> None:
        self._batches: list[EncodedBatch] = []
        self._since_ns = 0

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change in them was reported."""
        return self._since_ns if self._batches else None

    def put(self, batches: list[EncodedBatch], since_ns: int) -> None:
        """Adds the batches of a job."""
        self._batches, self._since_ns = batches, since_ns

    def take(self) -> list[EncodedBatch]:
        """Removes and returns the batches, which the caller sends now."""
        batches, self._batches = self._batches, []
        return batches


class Sent(Part):
    """Batches that are kept until they are durable. Acks of the backup node remove them; nothing else has to be
    done."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change in them was reported."""
        return self._outgoing.oldest_ns

    @property
    def is_due(self) -> bool:
        """Never: these batches have been sent."""
        return False

    def owed(self, until_ns: int) -> bool:
        """Never: the acks are awaited after the run (`Session.settle`)."""
        return False


class Parked(Part):
    """Large files that wait for a session: a job found them while there was none, or in the current round."""

    def __init__(self) -> None:
        self._files: dict[Place, Large] = {}

    @property
    def oldest_ns(self) -> int | None:
        """When the first of them was reported."""
        return min((large.since_ns for large in self._files.values()), default=None)

    def add(self, files: list[Large]) -> None:
        """Adds files to be sent. Of two files found at one place, the later one counts."""
        self._files.update((large.place, large) for large in files)

    def take(self) -> dict[Place, Large]:
        """Removes and returns the files: they join the large-file queue, or are checked again."""
        files, self._files = self._files, {}
        return files


class BrokenOff(Part):
    """Large files whose transfer was interrupted by the end of a session: the replica has neither the old content nor
    the new. They are checked again in the next session."""

    def __init__(self) -> None:
        self.files: list[tuple[Doubt, int]] = []
        """Each with the time at which its change was reported."""

    @property
    def oldest_ns(self) -> int | None:
        """When the first of them was reported."""
        return min((since_ns for _, since_ns in self.files), default=None)

    @property
    def doubtful(self) -> int:
        """All of them."""
        return len(self.files)

    def add(self, files: list[tuple[Doubt, int]]) -> None:
        """Adds files whose transfer was interrupted."""
        self.files += files

    def clear(self) -> None:
        """They are checked again."""
        self.files = []


class Unreadable(Part):
    """Objects that cannot be read now; each is checked again when its wait is over."""

    def __init__(self, passing: Passing) -> None:
        self._passing = passing
        self._since_ns: int | None = None

    @property
    def oldest_ns(self) -> int | None:
        """Since when there has been such an object. An object that is checked again keeps its age until it has been
        read."""
        return self._since_ns

    @property
    def is_empty(self) -> bool:
        """True when all could be read."""
        return self._passing.idle

    @property
    def is_due(self) -> bool:
        """Never: an object whose wait is over becomes a mark."""
        return False

    @property
    def due_at(self) -> float:
        """When the next one is to be checked."""
        return self._passing.due_at

    @property
    def doubtful(self) -> int:
        """The objects that stay unreadable."""
        return len(self._passing)

    def owed(self, until_ns: int) -> bool:
        """True while there is one, however new: each must be read or given up first."""
        return not self.is_empty

    def take(self) -> list[tuple[PutOff, int]]:
        """Removes and returns those whose wait is over, each with the time since when something has been unreadable."""
        self._passing.take_up()
        if self._passing.idle:
            self._since_ns = None
            return []
        since_ns = self._since_ns = self._since_ns or time.monotonic_ns()
        return [(each, since_ns) for each in self._passing.due()]

    def clear(self) -> None:
        """Forgets all: everything is compared again."""
        self._passing.clear()


@attrs.frozen(kw_only=True, slots=False)
class Backlog:
    """Each field is one kind of work; see `Part`."""

    dirty: DirtySet
    directories: Directories
    in_work: InWork
    in_transit: InTransit
    large: LargeFileQueue
    parked: Parked = attrs.field(factory=Parked)
    broken_off: BrokenOff = attrs.field(factory=BrokenOff)
    unreadable: Unreadable
    unpinned: Unpinned
    unverified: Unverified
    unsent: Unsent = attrs.field(factory=Unsent)
    sent: Sent
    _parts: tuple[Part, ...] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        names = [field.name for field in attrs.fields(type(self)) if field.init]
        object.__setattr__(self, "_parts", tuple(getattr(self, name) for name in names))

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change happened that is not durable on the replica; None: there is none."""
        ages = [part.oldest_ns for part in self._parts]
        return min((age for age in ages if age is not None), default=None)

    @property
    def is_empty(self) -> bool:
        """True when all is done, sent and durable."""
        return all(part.is_empty for part in self._parts)

    @property
    def is_due(self) -> bool:
        """True when a step can be done now."""
        return any(part.is_due for part in self._parts)

    @property
    def due_at(self) -> float:
        """When, by trio's clock, work becomes due without any event; infinite: never."""
        return min(part.due_at for part in self._parts)

    @property
    def rests(self) -> bool:
        """True when the only work left waits for objects that cannot be replicated now."""
        return all(part.rests for part in self._parts)

    @property
    def doubtful(self) -> int:
        """How many names differ on the replica, or may differ."""
        return sum(part.doubtful for part in self._parts)

    def carried(self, until_ns: int) -> bool:
        """True when all changes reported before are durable on the replica, except of names that are known to differ,
        or cannot be read."""
        waiting = (self.unverified, self.unreadable)
        ages = [part.oldest_ns for part in self._parts if part not in waiting]
        return all(age is None or age > until_ns for age in ages)

    def owes(self, until_ns: int) -> bool:
        """True while a change reported up to then has not been sent."""
        return any(part.owed(until_ns) for part in self._parts)
