"""What an administrator gives up of the past by hand, and what forbids it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from i2core.api.journal import Mark, MarkKind, Segment
from i2core.history.retention.kept import Kept

_BY_POLICY = (MarkKind.DAY, MarkKind.MONTH)


class Locked(Exception):
    """The lock still holds a moment that was to be given up."""

    def __init__(self, free: int) -> None:
        super().__init__(f"cdp.lock holds every moment from record {free} on")
        self.free = free
        """Moments before this record may be given up."""


class InUse(Exception):
    """Somebody reads a moment that was to be given up."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"the state after record {seq} is being read")
        self.seq = seq


@attrs.frozen(kw_only=True)
class Trim:
    """All moments before a record. Snapshots and tags have an end of their own, and stay."""

    before: Kept
    """What can be had now."""
    after: Kept
    """What can be had afterwards."""
    gone: tuple[Mark, ...]
    most_bytes: int
    """The journal becomes smaller by so many at most: old bytes that a snapshot needs stay."""

    @classmethod
    def of(cls, seq: int, floor: int, marks: Sequence[Mark], segments: Iterable[Segment]) -> Trim:
        """`seq`: the record before which all is given up, durable; `floor`: the present one."""
        gone = tuple(mark for mark in marks if mark.next_seq - 1 < seq and mark.kind in _BY_POLICY)
        new_floor = max(seq, floor)
        return cls(
            before=Kept(floor, (mark.next_seq - 1 for mark in marks)),
            after=Kept(new_floor, (mark.next_seq - 1 for mark in marks if mark not in gone)),
            gone=gone,
            most_bytes=sum(each.size_bytes for each in segments if each.next_seq - 1 <= new_floor),
        )

    @property
    def moments(self) -> int:
        """How many cannot be had any more."""
        last = self.after.floor
        return sum(map(len, self.before.ranges(0, last))) - sum(map(len, self.after.ranges(0, last)))

    def check_unread(self, pinned: Iterable[int]) -> None:
        """Raises InUse: one of the moments is being read."""
        for seq in pinned:
            if self.before.has(seq) and not self.after.has(seq):
                raise InUse(seq)
