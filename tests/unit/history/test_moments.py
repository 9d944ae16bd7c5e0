"""Moments are read to the nanosecond, in the zone that was meant, or refused."""

from __future__ import annotations

import datetime
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import UsageError
from i2core.config.words import Bilingual
from i2core.history.moments.text import format_moment, parse_moment
from i2core.history.moments.zones import local_zone_name, zone

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOW_NS = 1_796_000_000_123_456_789
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Shanghai", "America/St_Johns", "Australia/Lord_Howe"])


def _read(text: str, where: datetime.tzinfo = datetime.UTC) -> int:
    return parse_moment(text, work_zone=where, now_ns=NOW_NS)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("1970-01-01T00:00:01.000000001", 1_000_000_001),
        ("1970-01-01T00:00:01.5", 1_500_000_000),
        ("1970-01-01T00:00:01,25", 1_250_000_000),
        ("1970-01-01 00:01", 60 * 10**9),
        ("1970-01-02", 86400 * 10**9),
        ("1969-12-31T23:59:59.25", -750_000_000),
        ("1970-01-01T08:00:00+08:00", 0),
        ("1970-01-01T08:00:00 +0800", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T08:00[Asia/Shanghai]", 0),
        (" now ", NOW_NS),
        ("-90s", NOW_NS - 90 * 10**9),
        ("-1.5h", NOW_NS - 5400 * 10**9),
        ("-0.000000001s", NOW_NS - 1),
        ("-2 d", NOW_NS - 2 * 86400 * 10**9),
        ("-250ms", NOW_NS - 250_000_000),
    ],
)
def test_what_can_be_written(text: str, expected_ns: int) -> None:
    assert _read(text) == expected_ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "90s",
        "-90",
        "-1w",
        "2026-02-30",
        "2026-11-29T24:00",
        "2026-11-29T22:31:60",
        "2026-11-29T22:31:07.1234567891",
        "2026-11-29T22",
        "26-11-29",
        "2026-11-29T22:31:07+25:00",
        "2026-11-29T22:31[Nowhere/City]",
        "2026-11-29T22:31[../../etc/passwd]",
        "0001-01-01T00:00+23:00",
        "0001-01-01",
        "9999-12-31T23:59:59Z",
        "-100000000000d",
        "2026-11-29T22:31:07.123456 or so",
        "２０２６-11-29",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(text)
    for part in (caught.value.cause, caught.value.next_step):
        assert isinstance(part, Bilingual)
        assert part.en != part.zh


def test_the_hour_that_comes_twice_is_refused_with_both_readings() -> None:
    with pytest.raises(UsageError, match="twice") as caught:
        _read("2026-10-25T02:30:00.5", BERLIN)
    assert "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00" in caught.value.next_step
    first, second = _read("2026-10-25T02:30:00+02:00", BERLIN), _read("2026-10-25T02:30:00+01:00", BERLIN)
    assert second - first == 3600 * 10**9
    assert _read("2026-10-25T01:59:59", BERLIN) < first
    assert _read("2026-10-25T03:00:00", BERLIN) > second


def test_the_hour_that_is_left_out_is_refused() -> None:
    with pytest.raises(UsageError, match=r"does not exist.*show 2026-03-29T03:30:00"):
        _read("2026-03-29T02:30", BERLIN)


@given(st.integers(-(10**18), 4 * 10**18), ZONES)
def test_a_moment_comes_back(time_ns: int, name: str) -> None:
    where = zone(name)
    text = format_moment(time_ns, where)
    assert parse_moment(text, work_zone=datetime.UTC, now_ns=0) == time_ns


@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)), ZONES)
def test_local_times_are_read_as_the_zone_has_them(local: datetime.datetime, name: str) -> None:
    """Accepted exactly where one time of the zone shows this; then it is that one."""
    where = zone(name)
    shown = set()
    for fold in (0, 1):
        utc = local.replace(tzinfo=where, fold=fold).astimezone(datetime.UTC)
        if utc.astimezone(where).replace(tzinfo=None, fold=0) == local:
            shown.add(utc)
    try:
        found = parse_moment(local.isoformat(), work_zone=where, now_ns=0)
    except UsageError:
        assert len(shown) != 1
    else:
        (only,) = shown
        since = only - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        assert found == ((since.days * 86400 + since.seconds) * 10**6 + since.microseconds) * 1000


def test_offsets_are_always_shown() -> None:
    assert format_moment(0, BERLIN) == "1970-01-01T01:00:00.000000+01:00"
    assert format_moment(1, datetime.UTC) == "1970-01-01T00:00:00.000000001+00:00"
    assert format_moment(-1, zone("-03:30")) == "1969-12-31T20:29:59.999999999-03:30"


def test_this_systems_zone_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    zone(local_zone_name())
    monkeypatch.setenv("TZ", ":Asia/Shanghai")
    assert local_zone_name() == "Asia/Shanghai"
    monkeypatch.setenv("TZ", "CST-8")
    zone(local_zone_name())
