"""The questions that each kind of unfinished work answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

NEVER = float("inf")


class Part(ABC):
    """One kind of unfinished work: a field of `i2core.rule.live.backlog.Backlog`.

    A part that has only an age implements `oldest_ns` alone. The other answers follow from it, on the safe side: while
    there is an age, work is due now and a run may not end. A part overrides an answer where it knows better.
    """

    @property
    @abstractmethod
    def oldest_ns(self) -> int | None:
        """When its oldest change was reported (`time.monotonic_ns`); None: there is none."""

    @property
    def is_empty(self) -> bool:
        """True when there is none of this work."""
        return self.oldest_ns is None

    @property
    def is_due(self) -> bool:
        """True when a step of this work can be done now."""
        return not self.is_empty

    @property
    def due_at(self) -> float:
        """When, by trio's clock, this work becomes due without any event; infinite: never."""
        return NEVER

    @property
    def rests(self) -> bool:
        """True when this work can only wait, perhaps for ever."""
        return self.is_empty

    @property
    def doubtful(self) -> int:
        """How many names of it are not on the replica as they are here, or not known to be."""
        return 0

    def owed(self, until_ns: int) -> bool:
        """True while a run that is to end must go on: a change reported up to then has not been sent."""
        oldest_ns = self.oldest_ns
        return oldest_ns is not None and oldest_ns <= until_ns
