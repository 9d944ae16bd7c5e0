"""The past of a replica, as it was: the tree after each record, recorded when the record was applied. Later it is
compared with what the history of the replica tells of that moment."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from i2core.api import Batch, Code, StopRule
from i2core.api.tree import RootGone
from i2core.history.rewind.rewind import Rewind
from i2core.testing.sim.machine import Violation, running
from i2core.testing.sim.past import Recorder, Things, differences, read

if TYPE_CHECKING:
    from i2core.history.record.history import History
    from i2core.testing.sim.world import World

_WHILE_APPLIED = 0.01
"""The share of records after which a moment is read while the batch is still being applied."""
_BETWEEN = 0.05
"""The share of batches before which a moment is read."""


class Chronicle:
    """Of the history of one replica. What others have changed on the replica without it is a part of the past or not,
    as it happens: from then on nothing is compared until another history begins (`doubt`)."""

    def __init__(self, world: World, peer: str) -> None:
        """`peer`: whose rule it is."""
        self._world, self._peer = world, peer
        self._chance = world.chances["history"]
        self._recorders: dict[int, Recorder] = defaultdict(Recorder)
        self._trees: dict[int, list[Things]] = {}
        self._history: History | None = None
        self._first: tuple[int, int] = (0, 0)
        """The first record of the batch that is being applied: by the history's count, and by the sink's."""
        self._trusted = True
        self._floor, self._marks = 0, set[int]()
        """What must be kept: all moments from there on, and these."""

    def begin(self) -> None:
        """Another history begins."""
        self._trees.clear()
        self._trusted, self._floor, self._marks = True, 0, set()

    def doubt(self) -> None:
        """Somebody else has changed the replica."""
        self._trusted = False
        self._trees.clear()

    def keeps(self, floor: int, marks: Iterable[int]) -> None:
        """From now on these moments are kept, and all from `floor` on."""
        self._floor = max(self._floor, floor)
        self._marks |= {*marks}

    # ------------------------------------------------------------------------------------------ recording

    def meet(self, history: History) -> None:
        """The history is open. When it is seen for the first time, the replica must be at its position.

        Raises:
            Violation: a moment is not what it was.
        """
        if history is self._history:
            return
        self._history = history
        for seq in [seq for seq in self._trees if seq > history.seq]:
            del self._trees[seq]
        self._world.say(f"the history of {self._peer} is open at {history.seq}")
        self._check_present(history, history.seq)
        self._record(history.seq)
        self.check(2, "after it was opened")

    def _check_present(self, history: History, seq: int) -> None:
        roots, before = self._world.replicas.roots(), self._trees.get(seq)
        for root, now in enumerate(roots or () if before is not None else ()):
            there = self._recorders[root].record(now)
            if there[b""].mtime_ns is None:
                self._forget_time(root)
            found = [*differences(self._trees[seq][root], there)]
            if found:
                raise Violation(f"root {root} went back to {seq}, and is not as it was: " + "; ".join(found))

    def _forget_time(self, root: int) -> None:
        """A sink makes its private directory in the top directory, and then restores the time of that. Killed between
        the two, it leaves the time that the disk has given."""
        for tree in self._trees.values():
            tree[root][b""] = tree[root][b""]._replace(mtime_ns=None)

    def begins(self, history: History, batch: Batch) -> None:
        """The records are about to be applied; the journal has them already."""
        self.meet(history)
        last = history.journal.tip.next_seq - 1
        self._first = last - len(batch.records) + 1, batch.first_seq
        self._record(self._first[0] - 1)
        if self._chance.random() < _BETWEEN:
            self.check(1, "between two batches")

    def applied(self, seq: int) -> None:
        """The sink is done with the record, which has this number there."""
        moment = self._first[0] + seq - self._first[1]
        self._record(moment)
        if self._chance.random() < _WHILE_APPLIED:
            self.check(1, f"while record {moment} is applied")

    def _record(self, seq: int) -> None:
        roots = self._world.replicas.roots()
        if self._trusted and roots is not None:
            self._trees[seq] = [self._recorders[number].record(root) for number, root in enumerate(roots)]

    # ------------------------------------------------------------------------------------------ comparing

    def check_at_rest(self, history: History, most: int, when: str) -> None:
        """As `check`, while no record is planned: then the way back to the present has no steps."""
        self.meet(history)
        with _as_nobody(), history.reading:
            past = history.past()
            steps = [*Rewind(past, history.seq).records()]
            past.places.close()
        if steps:
            raise Violation(f"{when}: from {history.seq} back to {history.seq} there are steps: {steps}")
        self.check(most, when)

    def check(self, most: int, when: str) -> None:
        """Reads some moments of the open history, all of them if they are few, and compares them with what they were.

        Raises:
            Violation: one differs, or is not there.
        """
        history = self._history
        if history is None or self._world.replicas.roots() is None:
            return
        with _as_nobody():
            kept = history.kept()
            missing = [seq for seq in (*self._marks, self._floor) if not kept.has(seq)]
            if missing and not self._world.fills_history:
                raise Violation(f"{when}: the moments {missing} were to be kept, and {kept} is")
            known = [seq for seq in sorted(self._trees) if kept.has(seq)]
            for seq in known if len(known) <= most else self._chance.sample(known, most):
                for root, right in enumerate(self._trees[seq]):
                    found = self._unlike(history, root, seq, right)
                    if found:
                        raise Violation(f"{when}: root {root} at moment {seq} is not what it was: {'; '.join(found)}")

    def _unlike(self, history: History, root: int, seq: int, right: Things) -> list[str]:
        tree = history.tree(root, seq)
        try:
            return [*differences(right, read(tree))]
        except (OSError, StopRule) as error:
            is_elsewhere = isinstance(error, RootGone) or (
                isinstance(error, StopRule) and error.code is Code.REPLICA_GONE
            )
            if is_elsewhere and self._world.replicas.troubled:
                return []  # another directory has its path, and no session has begun there
            return [f"it cannot be read: {error!r}"]
        finally:
            tree.close()


@contextmanager
def _as_nobody() -> Iterator[None]:
    """What is read is no step of the node."""
    token = running.set(None)
    try:
        yield
    finally:
        running.reset(token)
