"""Retention keeps what it promises, never wants back what is gone, and does not care how often it runs."""

from __future__ import annotations

import datetime
import zoneinfo
from bisect import bisect_right

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api.journal import Mark, MarkKind
from i2core.config.model import CdpRetention
from i2core.history.model.rows import Moment
from i2core.history.retention.lock import Lock
from i2core.history.retention.objective import Used, full_in_s, objective
from i2core.history.retention.policy import DAY_NS, SPAN_DAYS, Change, Days, Retained, day_of, retain, shorten

HOUR_NS = DAY_NS // 24
BEGUN_NS = 1_790_000_000 * 10**9
UTC = Days(datetime.UTC)
BERLIN = Days(zoneinfo.ZoneInfo("Europe/Berlin"))
POLICIES = st.builds(CdpRetention, detailed_days=st.integers(1, 5), daily=st.integers(0, 8), monthly=st.integers(0, 4))


class World:
    """A history with a change every seven hours, and what is kept of it."""

    def __init__(self, policy: CdpRetention, days: Days = UTC) -> None:
        self.policy, self.days = policy, days
        self.kept = Retained(begun_ns=BEGUN_NS, floor_ns=BEGUN_NS)
        self.changes = [BEGUN_NS + number * 7 * HOUR_NS for number in range(4000)]

    def moment_at(self, time_ns: int) -> Moment:
        """The state at a time, which must be there still."""
        assert time_ns >= self.kept.floor_ns, "asked for what is gone"
        seq = bisect_right(self.changes, time_ns)
        return Moment(self.changes[seq - 1] if seq else 0, seq)

    def run(self, now_ns: int, free_before_ns: int | None = None) -> Change:
        """Retention at a time."""
        change = retain(
            self.policy,
            self.kept,
            now_ns=now_ns,
            days=self.days,
            moment_at=self.moment_at,
            free_before_ns=free_before_ns,
        )
        self.take(change)
        return change

    def take(self, change: Change) -> None:
        """Carries out a change, as far as it may be."""
        before = {(mark.next_seq, mark.time_ns) for mark in self.kept.marks}
        assert change.floor_ns >= self.kept.floor_ns, "the floor went back"
        for mark in change.add:
            day_end = self.days.end_ns(day_of(mark))
            assert day_end >= self.kept.floor_ns or (mark.next_seq, mark.time_ns) in before, "wants back what is gone"
        assert set(change.remove) <= set(self.kept.marks)
        marks = sorted((set(self.kept.marks) - set(change.remove)) | set(change.add), key=lambda mark: mark.next_seq)
        self.kept = attrs.evolve(self.kept, floor_ns=change.floor_ns, marks=tuple(marks))

    def marked(self, kind: MarkKind) -> list[int]:
        """The days of the marks of one kind."""
        return sorted(day_of(mark) for mark in self.kept.marks if mark.kind is kind)


@given(POLICIES, st.lists(st.integers(0, 30 * 24), min_size=1, max_size=15), st.sampled_from([UTC, BERLIN]))
def test_it_does_not_matter_how_often_it_runs(policy: CdpRetention, hours: list[int], days: Days) -> None:
    often, once, now_ns = World(policy, days), World(policy, days), BEGUN_NS
    for passed in hours:
        now_ns += passed * HOUR_NS
        often.run(now_ns)
    once.run(now_ns)
    assert often.kept == once.kept
    assert often.run(now_ns) == Change(floor_ns=often.kept.floor_ns), "a second run finds something to do"


@given(POLICIES, st.integers(0, 400 * 24), st.sampled_from([UTC, BERLIN]))
def test_it_keeps_what_it_promises(policy: CdpRetention, hours: int, days: Days) -> None:
    world, now_ns = World(policy, days), BEGUN_NS + hours * HOUR_NS
    for step in range(0, hours, 11):
        world.run(BEGUN_NS + step * HOUR_NS)
    world.run(now_ns)
    floor_ns = max(now_ns - policy.detailed_days * DAY_NS, BEGUN_NS)
    assert world.kept.floor_ns == floor_ns
    floor_day, first_day = days.of(floor_ns), days.of(BEGUN_NS)
    expected = range(max(floor_day - policy.daily, first_day), floor_day)
    assert [day for day in world.marked(MarkKind.DAY) if day in expected] == list(expected)
    months = world.marked(MarkKind.MONTH)
    assert _spans(months) == len(months), "two marks in one span"
    older = max(expected.start - first_day, 0)
    assert len(months) >= min(policy.monthly, older // SPAN_DAYS)
    assert len(months) <= policy.monthly + 1
    assert objective(policy, world.kept, now_ns=now_ns, days=days).is_met
    for mark in world.kept.marks:
        day_end = days.end_ns(day_of(mark))
        assert mark.next_seq == bisect_right(world.changes, day_end) + 1


def _spans(days: list[int]) -> int:
    epoch = datetime.date(1970, 1, 1).toordinal()
    return len({(day - epoch) // SPAN_DAYS for day in days})


@given(POLICIES, st.integers(1, 60), st.integers(1, 200))
def test_what_is_locked_stays(policy: CdpRetention, locked_days: int, age_days: int) -> None:
    world = World(policy)
    lock = Lock().set(locked_days * DAY_NS, BEGUN_NS)
    for day in range(0, age_days, 3):
        now_ns = BEGUN_NS + day * DAY_NS
        bound = lock.free_before(now_ns)
        world.run(now_ns, bound)
        assert world.kept.floor_ns <= max(now_ns - locked_days * DAY_NS, BEGUN_NS)
        change = shorten(world.kept, now_ns=now_ns, step_ns=10 * DAY_NS, days=UTC, free_before_ns=bound)
        assert change is None or change.floor_ns <= now_ns - locked_days * DAY_NS or change.remove


def test_a_lock_set_later_holds_marks_that_are_there() -> None:
    world = World(CdpRetention(detailed_days=1, daily=10, monthly=0))
    world.run(BEGUN_NS + 10 * DAY_NS)
    there = world.kept.marks
    lock = Lock().set(365 * DAY_NS, BEGUN_NS + 10 * DAY_NS)
    now_ns = BEGUN_NS + 100 * DAY_NS
    world.run(now_ns, lock.free_before(now_ns))
    assert set(there) <= set(world.kept.marks)
    bound = lock.free_before(now_ns)
    assert shorten(world.kept, now_ns=now_ns, step_ns=DAY_NS, days=UTC, free_before_ns=bound) is None


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), min_size=1, max_size=8))
def test_a_shorter_lock_is_true_for_what_comes_after(settings: list[tuple[int, int]]) -> None:
    """Against the definition: a moment is locked by the longest lock that was in force at it or after it."""
    lock, now, history = Lock(), 0, list[tuple[int, int]]()
    for age, passed in settings:
        lock = lock.set(age, now)
        history.append((now, age))
        now += passed
        for moment in range(-5, now + 1):
            ends = [begin for begin, _ in history[1:]] + [1 << 60]
            ages = [age for (_, age), end in zip(history, ends, strict=True) if end > moment]
            assert lock.holds(moment, now) == (now - moment < max(ages)), (moment, now, history)


def test_snapshots_and_tags_are_left_alone() -> None:
    world = World(CdpRetention(detailed_days=1, daily=1, monthly=0))
    tag = Mark(3, 5, MarkKind.TAG, "before the update")
    world.kept = attrs.evolve(world.kept, marks=(tag,))
    world.run(BEGUN_NS + 100 * DAY_NS)
    assert tag in world.kept.marks


def test_a_full_disk_takes_the_oldest_first() -> None:
    world = World(CdpRetention(detailed_days=2, daily=3, monthly=2))
    now_ns = BEGUN_NS + 100 * DAY_NS
    world.run(now_ns)
    given_up: list[MarkKind | None] = []
    while change := shorten(world.kept, now_ns=now_ns, step_ns=DAY_NS, days=UTC):
        given_up.append(change.remove[0].kind if change.remove else None)
        world.take(change)
    order = {MarkKind.MONTH: 0, MarkKind.DAY: 1, None: 2}
    assert [order[kind] for kind in given_up] == sorted(order[kind] for kind in given_up)
    assert world.kept.floor_ns == now_ns
    assert not world.kept.marks
    assert not objective(world.policy, world.kept, now_ns=now_ns, days=UTC).is_met


def test_days_are_those_of_the_zone() -> None:
    day = datetime.date(2026, 10, 25).toordinal()  # of 25 hours in Berlin
    assert BERLIN.end_ns(day) - BERLIN.end_ns(day - 1) == 25 * HOUR_NS
    assert BERLIN.of(BERLIN.end_ns(day) - 1) == day
    assert BERLIN.of(BERLIN.end_ns(day)) == day + 1


def test_forecast() -> None:
    hour, gib = 3600 * 10**9, 1 << 30
    assert full_in_s([], gib) is None
    assert full_in_s([Used(0, gib)], gib) is None
    assert full_in_s([Used(0, 0), Used(hour, gib)], 9 * gib) == pytest.approx(9 * 3600)
    assert full_in_s([Used(0, gib), Used(hour, 0)], 9 * gib) is None
    # A quiet last hour after a busy day: the day counts.
    busy = [Used(number * hour, number * gib) for number in range(24)] + [Used(24 * hour, 23 * gib)]
    assert full_in_s(busy, 23 * gib) == pytest.approx(24 * 3600)
    # What is older than a day does not.
    assert full_in_s([Used(-100 * hour, -900 * gib), *busy], 23 * gib) == pytest.approx(24 * 3600)
