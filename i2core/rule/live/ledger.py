"""The ledger: what is sent and not yet known to be safe, and what follows from it when a link or a node breaks.

What the backup node is sure to have applied needs nothing. What it is sure not to have applied lies in the outbox and
is sent again. In between is what was applied while nobody could hear whether it failed: its places are in doubt, and
are compared with the replica.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from i2core.api import Place
from i2core.rule.reading.catalog import Doubt

Doubts = dict[tuple[Place, int], Doubt]
"""By the place that a record named and the object that it was about: one place may see several in one batch."""


def add_doubt(doubts: Doubts, place: Place, doubt: Doubt) -> None:
    """One more; once deep, a doubt stays deep."""
    key = (place, doubt.node)
    before = doubts.get(key)
    doubts[key] = doubt if before is None or not before.deep else doubt._replace(deep=True)


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
        """Records up to `last_seq` go out; `since_ns` is when the first of what they tell happened. `doubts`: what they
        are about. `kept`: the outbox has them until they are durable."""
        if last_seq <= self.durable_seq:
            return  # the ack was quicker than who sent them
        self._sent.append(_Sent(last_seq, since_ns, doubts, kept))

    def answered(self, applied_seq: int) -> None:
        """All up to there is applied, and every failure among it was told."""
        self._answered_seq = max(self._answered_seq, applied_seq)

    def durable(self, seq: int) -> None:
        """All up to there is safe."""
        self.durable_seq = max(self.durable_seq, seq)
        while self._sent and self._sent[0].last_seq <= seq:
            self._sent.popleft()

    def clear(self) -> None:
        """The replica is compared as a whole."""
        self._sent.clear()

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change that is made into records and not durable happened."""
        return self._sent[0].since_ns if self._sent else None

    def about(self, seq: int, place: Place) -> list[Doubt]:
        """What the records that went out together with that of `seq` told of `place`."""
        for sent in self._sent:
            if seq <= sent.last_seq:
                return [doubt for (named, _), doubt in sent.doubts.items() if named == place]
        return []

    def resume(self, applied_seq: int, *, exact: bool) -> dict[Doubt, None]:
        """A new session begins, and the replica is at `applied_seq`; not `exact`: perhaps beyond. Gives what is in
        doubt. What is not durable stays entered; what the outbox sends again is as if it had never been sent."""
        found: dict[Doubt, None] = {}
        before = self._answered_seq
        for sent in self._sent:
            # Of a batch that was cut short only the rest is sent again.
            again = sent.kept and applied_seq <= before
            known = sent.last_seq <= self._answered_seq
            if not exact or not (again or known):
                found.update(dict.fromkeys(sent.doubts.values()))
            before = max(before, sent.last_seq)
        return found
