"""What of the past is kept: every moment of the last days, then one a day, then one for each 30 days.

           30-day marks          daily marks        every moment
    ──●───────────●───────────●──●──●──●──●──●──●━━━━━━━━━━━━━━━━━ now
                              monthly  daily    floor

A day's mark is its last moment. It is chosen when the floor passes over it, while its moment is still there; after that
marks only go. A 30-day mark is the last daily mark in one of the spans of 30 days, which are counted from a fixed day.
So it does not matter how often retention runs: the same is kept.

Days are those of the backup node, by its steady clock: nobody but this node decides what is old. Snapshots and tags are
left alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import attrs

from i2core.api.journal import Mark, MarkKind
from i2core.config.model import CdpRetention
from i2core.history.model.rows import Moment

DAY_NS = 86400 * 10**9
SPAN_DAYS = 30
_FIRST_DAY = datetime.date(1970, 1, 1).toordinal()


@attrs.frozen(kw_only=True)
class Retained:
    """What is kept of one history."""

    begun_ns: int
    """When history began."""
    floor_ns: int
    """Every moment from then on. Both by the steady clock."""
    marks: tuple[Mark, ...] = ()


@attrs.frozen(kw_only=True)
class Change:
    """What retention does now."""

    floor_ns: int
    add: tuple[Mark, ...] = ()
    remove: tuple[Mark, ...] = ()


class Days:
    """Days of a time zone, as ordinals of the calendar."""

    def __init__(self, zone: datetime.tzinfo) -> None:
        self._zone = zone

    def of(self, time_ns: int) -> int:
        """The day of a time."""
        seconds = datetime.timedelta(seconds=time_ns // 10**9)
        utc = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + seconds
        return utc.astimezone(self._zone).toordinal()

    def end_ns(self, day: int) -> int:
        """When the day ends: the next one's midnight."""
        midnight = datetime.datetime.combine(datetime.date.fromordinal(day + 1), datetime.time(), self._zone)
        return int((midnight - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds()) * 10**9


def retain(
    policy: CdpRetention,
    kept: Retained,
    *,
    now_ns: int,
    days: Days,
    moment_at: Callable[[int], Moment],
    free_before_ns: int | None = None,
) -> Change:
    """What the policy gives up now, and which moments it marks before that.

    `moment_at` gives the state at a time of the steady clock; it is asked for times from the old floor on alone.
    `free_before_ns`: the lock (`Lock.free_before`).
    """
    floor_ns = now_ns - policy.detailed_days * DAY_NS
    if free_before_ns is not None:
        floor_ns = min(floor_ns, free_before_ns)
    floor_ns = max(floor_ns, kept.floor_ns)
    reach = _Reach(policy, days.of(floor_ns))
    first = max(days.of(max(kept.floor_ns, kept.begun_ns)), reach.oldest_day)
    found = {day_of(mark): mark for mark in kept.marks if mark.kind in _KINDS}
    for day in range(first, days.of(floor_ns) + 1):
        if kept.floor_ns <= (end_ns := days.end_ns(day)) <= floor_ns and day not in found:
            found[day] = _mark(day, moment_at(end_ns))
    wanted = {mark._replace(kind=kind) for day, kind in reach.kept(sorted(found)) for mark in (found[day],)}
    there = {mark for mark in kept.marks if mark.kind in _KINDS}
    gone = {mark for mark in there - wanted if is_free(mark, days, free_before_ns) or _became(mark) in wanted}
    return Change(floor_ns=floor_ns, add=_in_order(wanted - there), remove=_in_order(gone))


_KINDS = (MarkKind.DAY, MarkKind.MONTH)


class _Reach(NamedTuple):
    """How far back single moments are kept, counted from the day of the floor."""

    policy: CdpRetention
    floor_day: int

    @property
    def first_daily(self) -> int:
        """From this day on each has a mark."""
        return self.floor_day - self.policy.daily

    @property
    def oldest_day(self) -> int:
        """No older mark is kept."""
        if not self.policy.monthly:
            return self.first_daily
        return _FIRST_DAY + (_span(self.first_daily) - self.policy.monthly) * SPAN_DAYS

    def kept(self, found: Sequence[int]) -> Iterator[tuple[int, MarkKind]]:
        """Which of these days keep their marks, and as what."""
        for index, day in enumerate(found):
            if day >= self.first_daily:
                yield day, MarkKind.DAY
                continue
            follower = found[index + 1] if index + 1 < len(found) else self.first_daily
            is_last = follower >= self.first_daily or _span(follower) != _span(day)
            if is_last and day >= self.oldest_day:
                yield day, MarkKind.MONTH


def _span(day: int) -> int:
    return (day - _FIRST_DAY) // SPAN_DAYS


def day_of(mark: Mark) -> int:
    """The day that a daily or 30-day mark stands for."""
    return datetime.date.fromisoformat(mark.name).toordinal()


def _mark(day: int, moment: Moment) -> Mark:
    return Mark(moment.seq + 1, moment.time_ns, MarkKind.DAY, datetime.date.fromordinal(day).isoformat())


def _became(mark: Mark) -> Mark:
    return mark._replace(kind=MarkKind.MONTH)


def is_free(mark: Mark, days: Days, free_before_ns: int | None) -> bool:
    """True unless the lock holds the mark."""
    return free_before_ns is None or days.end_ns(day_of(mark)) <= free_before_ns


def _in_order(marks: set[Mark]) -> tuple[Mark, ...]:
    return tuple(sorted(marks, key=lambda mark: (mark.next_seq, mark.name, mark.kind.value)))


def shorten(
    kept: Retained, *, now_ns: int, step_ns: int, days: Days, free_before_ns: int | None = None
) -> Change | None:
    """The next thing to give up on a full disk (`cdp.when_full = "shorten"`): the oldest 30-day mark, the oldest daily
    one, then `step_ns` of every moment. None: nothing may be given up."""
    for kind in _KINDS[::-1]:
        free = [mark for mark in kept.marks if mark.kind is kind and is_free(mark, days, free_before_ns)]
        if free:
            return Change(floor_ns=kept.floor_ns, remove=(min(free, key=day_of),))
    floor_ns = min(kept.floor_ns + step_ns, now_ns if free_before_ns is None else free_before_ns, now_ns)
    return Change(floor_ns=floor_ns) if floor_ns > kept.floor_ns else None
