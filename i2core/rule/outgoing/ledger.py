"""The ledger: records that were sent and are not yet durable, and what follows after a broken link or a crash.

Records that the backup node has certainly applied need nothing. Records that it has certainly not applied are in the
outbox and are resent. In between are records that may have been applied without a report of success or failure: their
places are unverified and are compared with the replica.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from i2core.api import Place
from i2core.rule.catalog.rows import Doubt

Doubts = dict[tuple[Place, int], Doubt]
"""Doubts by the place that a record named and the row id of its object. Within one batch, several objects may have the
same place one after the other."""


def add_doubt(doubts: Doubts, place: Place, doubt: Doubt) -> None:
    """Adds a doubt. A doubt that is deep, or covers all names of an object, stays so when another one is added to
    it."""
    key = (place, doubt.node)
    before = doubts.get(key, doubt)
    doubts[key] = doubt._replace(deep=max(doubt.deep, before.deep), inode=doubt.inode or before.inode)


def without_places(found: Iterable[Doubt]) -> Doubts:
    """Doubts whose records are not at hand, so the places that these named are not known. They are told apart by the
    directory: `mv d1/x .; mv d2/x ..` leaves two doubts about a name `x` that no object has."""
    # No record names a root below 0, so no failure is taken for one of these.
    return {(Place(-1 - doubt.parent, doubt.name), doubt.node): doubt for doubt in found}


class _Sent(NamedTuple):
    last_seq: int
    since_ns: int
    doubts: Doubts
    kept: bool


class Ledger:
    """Entries in seq order. For one task at a time."""

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()
        self._answered_seq = 0
        self.durable_seq = 0
        """The highest seq that the backup node ever called durable."""

    def add(self, last_seq: int, since_ns: int, doubts: Doubts, *, kept: bool) -> None:
        """Enters records up to `last_seq`. `since_ns`: when the oldest change in them happened. `doubts`: what is in
        unverified if their result stays unknown. `kept`: the outbox has them until they are durable."""
        if last_seq <= self.durable_seq:
            return  # the ack arrived before this call
        self._sent.append(_Sent(last_seq, since_ns, doubts, kept))

    @property
    def answered_seq(self) -> int:
        """All records up to this seq are applied, and every failure among them was reported."""
        return self._answered_seq

    def answered(self, applied_seq: int) -> None:
        """All records up to this seq are applied, and every failure among them was reported."""
        self._answered_seq = max(self._answered_seq, applied_seq)

    def durable(self, seq: int) -> None:
        """All records up to `seq` are durable: their entries are removed."""
        self.durable_seq = max(self.durable_seq, seq)
        while self._sent and self._sent[0].last_seq <= seq:
            self._sent.popleft()

    def lost(self, durable_seq: int) -> None:
        """The backup node has lost durable records: only those up to `durable_seq` are left, and the whole replica is
        compared."""
        self.durable_seq = durable_seq

    def clear(self) -> None:
        """Removes all entries: the whole replica is compared."""
        self._sent.clear()

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change happened whose records are not durable."""
        return self._sent[0].since_ns if self._sent else None

    def about(self, seq: int, place: Place) -> list[Doubt]:
        """The doubts at `place` of the batch that contains `seq`."""
        for sent in self._sent:
            if seq <= sent.last_seq:
                return [doubt for (named, _), doubt in sent.doubts.items() if named == place]
        return []

    def resume(self, applied_seq: int, *, exact: bool) -> dict[Doubt, None]:
        """A new session begins. The replica has applied all records up to `applied_seq`; if not `exact`, perhaps more.
        Returns what is unverified.

        A batch is not unverified if all its failures have been reported, or if the outbox resends it as a whole.
        Entries stay until their records are durable. Example: batches 1-10, 11-20 and 21-30 were sent, failures were
        reported up to 10, and the replica is at 15. The first batch is answered, and the third is resent. Of the second
        only 16-20 are resent; 11-15 were applied, perhaps with failures that nobody reported: it is unverified.

        A replica with a history goes back to its durable state after a crash. So it may have less than it reported
        before; what was answered above `applied_seq` counts as never sent."""
        found: dict[Doubt, None] = {}
        before = self._answered_seq
        for sent in self._sent:
            # A batch that was applied in part is resent only in part: failures in the first part may be unreported.
            again = sent.kept and applied_seq <= before
            known = sent.last_seq <= min(self._answered_seq, applied_seq)
            if not exact or not (again or known):
                found.update(dict.fromkeys(sent.doubts.values()))
            before = max(before, sent.last_seq)
        return found
