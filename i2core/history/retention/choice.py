"""Which segments are given up next, and which are merged.

What no kept moment needs goes as a whole, without being read. The rest below the floor is merged, so that in the end
one segment lies between two neighbouring kept moments: rows that only moments between them needed go by that.

    marks        ●                    ●            ●
    segments   ──── │ ──── ── ─ ───── │ ──── ───── │ ━━━━━ ━━━━━ ━━━━━      ━ above the floor: as they were written
                      these are one, in the end

A segment is not merged each time something comes behind it: only when what comes is half as large. So each byte is
copied a few times, however often retention runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby

from i2core.api.journal import Segment
from i2core.history.retention.kept import Kept

_LARGER = 2
"""A merged segment is merged again once all that comes behind it has so much of its size at least: one half."""


def below(segments: Sequence[Segment], seq: int) -> list[Segment]:
    """The oldest segments, all of whose records are up to `seq`, without the last one, which still grows."""
    found = []
    for segment in segments[:-1]:
        if _last(segment) > seq:
            break
        found.append(segment)
    return found


def runs(segments: Sequence[Segment], kept: Kept, most_bytes: int) -> Iterator[list[Segment]]:
    """Neighbours that are to be merged, the oldest first. `most_bytes`: there is room for so much."""
    groups = groupby(below(segments, kept.floor), key=lambda segment: bisect_left(kept.marks, _last(segment)))
    for _, group in groups:
        run = _fitting(_worth_it(list(group)), most_bytes)
        if len(run) > 1 or (run and not run[0].merged):
            yield run


def _last(segment: Segment) -> int:
    return segment.next_seq - 1


def _worth_it(group: Sequence[Segment]) -> list[Segment]:
    """The newest segments of a group, down to the first one that is too large for what comes behind it."""
    at = next((index for index, segment in enumerate(group) if not segment.merged), len(group) - 1)
    size = sum(segment.size_bytes for segment in group[at:])
    while at and group[at - 1].size_bytes <= _LARGER * size:
        at -= 1
        size += group[at].size_bytes
    return list(group[at:])


def _fitting(run: Sequence[Segment], most_bytes: int) -> list[Segment]:
    size, fitting = 0, []
    for segment in run:
        size += segment.size_bytes
        if size > most_bytes:
            break
        fitting.append(segment)
    return fitting
