"""Which moments of the past can be had: all from the floor on, and single ones below it.

    oldest                     floor                       now
    ──────●────────●────●──────●━━━━━━━━━━━━━━━━━━━━━━━━━━━━
          marks                every moment

A mark may only be chosen while its moment is at or above the floor, and retention only ever shrinks in the past: so a
row that was dropped is never missed later.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

import attrs


def _sorted(marks: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(marks)))


@attrs.frozen
class Kept:
    """Moments by seq. The state at `floor` itself and every later one is kept, and those at the marks."""

    floor: int = 0
    marks: tuple[int, ...] = attrs.field(default=(), converter=_sorted)

    def needs(self, since: int, until: int) -> bool:
        """True when a kept moment T has since <= T < until: a row with this interval stays."""
        if until > self.floor:
            return True
        at = bisect_left(self.marks, since)
        return at < len(self.marks) and self.marks[at] < until

    def has(self, seq: int) -> bool:
        """True when the state at this moment can be read."""
        return self.needs(seq, seq + 1)

    @property
    def oldest(self) -> int:
        """The oldest kept moment."""
        return min(self.marks[0], self.floor) if self.marks else self.floor

    def neighbours(self, seq: int) -> tuple[int | None, int]:
        """For a moment that cannot be had: the nearest kept ones before and after it."""
        at = bisect_right(self.marks, seq)
        before = self.marks[at - 1] if at else None
        after = self.marks[at] if at < len(self.marks) else self.floor
        return before, min(after, self.floor)

    def ranges(self, first: int, last: int) -> Iterator[range]:
        """What can be had of the moments first…last, as ranges of seqs; a mark alone is a range of one."""
        floor = max(first, self.floor)
        for mark in self.marks:
            if first <= mark <= last and mark < floor:
                yield range(mark, mark + 1)
        if floor <= last:
            yield range(floor, last + 1)

    def shrunk(self, floor: int, marks: Iterable[int]) -> Kept:
        """What is kept after retention went on.

        Raises:
            ValueError: a moment would be kept that is not there any more.
        """
        wanted = _sorted(marks)
        if floor < self.floor or not all(map(self.has, wanted)):
            raise ValueError("what was given up cannot be kept again")
        return Kept(floor, wanted)
