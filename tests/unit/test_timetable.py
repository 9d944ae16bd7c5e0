"""The weekly bandwidth table: which limit is in force at a moment, and when it changes."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from i2core.config.model import BandwidthWindow
from i2core.limits.timetable import limit_at, next_change

OFFICE = BandwidthWindow(days=frozenset(range(5)), first_minute=8 * 60, end_minute=18 * 60, limit_bps=2_000_000)
NIGHT = BandwidthWindow(days=frozenset({4}), first_minute=22 * 60, end_minute=6 * 60, limit_bps=0)
ALWAYS = BandwidthWindow(days=frozenset(range(7)), first_minute=0, end_minute=24 * 60, limit_bps=9_000_000)


def at(text: str) -> datetime.datetime:
    """A local time in the week that begins on Monday, 5 January 2026."""
    day, clock = text.split()
    number = ("mon", "tue", "wed", "thu", "fri", "sat", "sun").index(day)
    return datetime.datetime.fromisoformat(f"2026-01-{5 + number:02d}T{clock}")


def test_a_window_is_open_from_its_first_minute_to_before_its_end() -> None:
    assert limit_at([OFFICE], at("mon 07:59:59.999999")) is None
    assert limit_at([OFFICE], at("mon 08:00")) == 2_000_000
    assert limit_at([OFFICE], at("fri 17:59:59.999999")) == 2_000_000
    assert limit_at([OFFICE], at("fri 18:00")) is None
    assert limit_at([OFFICE], at("sat 12:00")) is None
    assert limit_at([], at("mon 12:00")) is None


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    assert limit_at([NIGHT], at("fri 03:00")) is None
    assert limit_at([NIGHT], at("fri 22:00")) == 0
    assert limit_at([NIGHT], at("sat 05:59")) == 0
    assert limit_at([NIGHT], at("sat 06:00")) is None
    assert limit_at([NIGHT], at("sat 22:00")) is None


def test_a_night_of_sunday_ends_on_monday() -> None:
    sunday = BandwidthWindow(days=frozenset({6}), first_minute=23 * 60, end_minute=60, limit_bps=1)
    assert limit_at([sunday], at("mon 00:30")) == 1
    assert limit_at([sunday], at("sun 00:30")) is None


def test_the_lowest_of_overlapping_limits_counts() -> None:
    assert limit_at([ALWAYS, OFFICE], at("wed 12:00")) == 2_000_000
    assert limit_at([OFFICE, ALWAYS], at("wed 20:00")) == 9_000_000
    assert limit_at([ALWAYS, NIGHT], at("fri 23:00")) == 0


def test_the_next_change() -> None:
    assert next_change([OFFICE], at("mon 07:00")) == at("mon 08:00")
    assert next_change([OFFICE], at("mon 08:00")) == at("mon 18:00")
    assert next_change([OFFICE], at("fri 18:00")) == at("mon 08:00") + datetime.timedelta(days=7)
    assert next_change([NIGHT], at("fri 23:00")) == at("sat 06:00")
    assert next_change([ALWAYS], at("mon 00:00")) is None
    assert next_change([], at("mon 00:00")) is None


minutes = st.integers(0, 24 * 60 - 1)
windows = st.builds(
    BandwidthWindow,
    days=st.frozensets(st.integers(0, 6), min_size=1),
    first_minute=minutes,
    end_minute=st.integers(0, 24 * 60),
    limit_bps=st.integers(0, 3),
).filter(lambda window: window.first_minute != window.end_minute)


@given(st.lists(windows, max_size=4), st.datetimes(datetime.datetime(2026, 1, 1), datetime.datetime(2026, 3, 1)))
def test_nothing_changes_before_the_next_change(table: list[BandwidthWindow], now: datetime.datetime) -> None:
    edge = next_change(table, now)
    minute = now.replace(second=0, microsecond=0) + datetime.timedelta(minutes=1)
    for _ in range(8 * 24 * 60):
        if limit_at(table, minute) != limit_at(table, now):
            assert edge == minute
            return
        minute += datetime.timedelta(minutes=1)
    assert edge is None
