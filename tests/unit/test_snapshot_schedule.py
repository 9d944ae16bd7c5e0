"""When automatic snapshots are due, and which ones go."""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.config.model import SnapshotPlan
from i2core.snapshot.catalog import Catalog, Snapshot, State
from i2core.snapshot.schedule import is_due, next_slot, slot, surplus

S = 10**9
BERLIN = ZoneInfo("Europe/Berlin")


def _ns(text: str, zone: datetime.tzinfo = datetime.UTC) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * S


def _hourly(start: str | None = None, every_s: float = 3600) -> SnapshotPlan:
    return SnapshotPlan(every_s=every_s, start=None if start is None else datetime.datetime.fromisoformat(start))


def _automatic(ident: int, slot_ns: int) -> Snapshot:
    return Snapshot(ident=ident, name=str(ident), store="journal", slot_ns=slot_ns, state=State.KEPT)


def test_without_a_start_the_first_one_is_an_interval_later() -> None:
    plan, begun = _hourly(), _ns("2026-01-01T10:17:00")
    assert slot(plan, datetime.UTC, begun, begun + 3599 * S) is None
    assert next_slot(plan, datetime.UTC, begun, begun) == begun + 3600 * S
    assert slot(plan, datetime.UTC, begun, begun + 3600 * S) == begun + 3600 * S
    assert slot(plan, datetime.UTC, begun, begun + 9000 * S) == begun + 7200 * S


def test_the_start_is_a_time_of_the_work_node() -> None:
    plan = _hourly("2026-01-01T00:30")
    assert slot(plan, BERLIN, 0, _ns("2026-01-01T00:29:59", BERLIN)) is None
    assert slot(plan, BERLIN, 0, _ns("2026-01-01T00:30:00", BERLIN)) == _ns("2025-12-31T23:30")
    assert next_slot(plan, BERLIN, 0, _ns("2026-01-01T05:00", BERLIN)) == _ns("2026-01-01T05:30", BERLIN)


@pytest.mark.parametrize("day", ["2026-03-28", "2026-03-29", "2026-03-30", "2026-10-25", "2026-10-26"])
def test_a_daily_one_keeps_its_time_of_day(day: str) -> None:
    """The clocks of Berlin change on 29 March and on 25 October."""
    plan = _hourly("2026-01-01T22:00", 86400)
    at = _ns(f"{day}T22:00", BERLIN)
    assert slot(plan, BERLIN, 0, at) == at
    assert next_slot(plan, BERLIN, 0, at - S) == at
    before = slot(plan, BERLIN, 0, at - S)
    assert before is not None
    assert datetime.datetime.fromtimestamp(before / S, BERLIN).hour == 22


@given(
    every_s=st.sampled_from([300, 3600, 5400, 86400, 7 * 86400]),
    now=st.integers(0, 4 * 365 * 86400),
    has_start=st.booleans(),
)
def test_slots_follow_each_other(every_s: int, now: int, has_start: bool) -> None:
    plan = _hourly("2026-02-03T04:05:06" if has_start else None, every_s)
    since, now_ns = _ns("2026-01-01T00:00"), _ns("2026-01-01T00:00") + now * S
    current, following = slot(plan, BERLIN, since, now_ns), next_slot(plan, BERLIN, since, now_ns)
    assert following > now_ns
    assert slot(plan, BERLIN, since, following) == following
    assert slot(plan, BERLIN, since, following - 1) == current
    assert current is None or now_ns - 2 * every_s * S < current <= now_ns


def test_a_slot_is_served_once() -> None:
    taken = [_automatic(1, 100), Snapshot(ident=2, name="2", store="journal", state=State.KEPT)]
    assert not is_due(None, taken)
    assert not is_due(100, taken)
    assert is_due(200, taken)
    assert is_due(200, [])


def test_a_clock_that_was_far_ahead_does_not_stop_the_schedule() -> None:
    ahead = [_automatic(1, 10**18)]
    assert is_due(200, ahead)


def test_the_oldest_automatic_ones_go() -> None:
    by_hand = Snapshot(ident=1, name="1", store="journal", state=State.KEPT)
    all_of = [by_hand, *(_automatic(ident, ident) for ident in range(2, 7))]
    assert [each.ident for each in surplus(all_of, 3, ())] == [2, 3]
    assert [each.ident for each in surplus(all_of, 3, {2})] == [3, 4], "one that is used stays, another one goes"
    assert surplus(all_of, 5, ()) == []
    assert surplus(all_of, 1, {2, 3, 4, 5, 6}) == []


def test_the_catalog_is_written_and_read() -> None:
    catalog = Catalog(since_ns=5).with_entry(_automatic(3, 7)).with_entry(_automatic(1, 2)).without(1)
    assert catalog.next_ident == 4
    assert Catalog.decode(catalog.encode()) == catalog
    for bad in (b"", b"[]", b'{"snapshots": [{"ident": 1}]}', catalog.encode().replace(b"kept", b"lost")):
        with pytest.raises(ValueError, match=r".*"):
            Catalog.decode(bad)
