"""The durable position of a replica within its history."""

from __future__ import annotations

from typing import NamedTuple, Self

from i2core.api.journal import Position, Tip


class CannotGoOn(Exception):
    """Replica, position and journal are not of one history, or not any more: it ends here, and another one begins."""


class Durable(NamedTuple):
    """All up to here is on the disk: records, and what the history knows of them. A start after a crash takes the
    replica back to it. Kept with the replica's other position, in one step."""

    seq: int
    """The last record, by the history's own count; the end of a plan."""
    tip: Tip
    """The last frame of the journal that belongs to it."""
    reach: Position
    """Where this frame ends."""

    def encode(self) -> str:
        """As text, for what is kept."""
        return f"{self.seq:x} {self.reach.segment:x} {self.reach.offset:x} {self.tip.encode()}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """The position again.

        Raises:
            ValueError: the text is none.
        """
        seq, segment, offset, tip = text.split(" ", 3)
        return cls(int(seq, 16), Tip.decode(tip), Position(int(segment, 16), int(offset, 16)))
