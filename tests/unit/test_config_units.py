"""Durations, sizes and rates: read exactly, written exactly, refused when they could be misread."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import UsageError
from i2core.config import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("200ms", 0.2), ("30s", 30.0), ("1h", 3600.0), ("1.5h", 5400.0), ("2 d", 172800.0), ("0", 0.0), (" 5m ", 300.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("256MB", 256_000_000), ("8MiB", 8 << 20), ("4096", 4096), ("0", 0), ("1.5kB", 1500), ("1TiB", 1 << 40)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert units.parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "bits"), [("2Mbps", 2_000_000), ("512kbps", 512_000), ("0", 0), ("1Gbps", 10**9), ("9bps", 9)]
)
def test_rates_are_decimal_bits(text: str, bits: int) -> None:
    assert units.parse_rate(text) == bits


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (units.parse_duration, "30"),
        (units.parse_duration, ""),
        (units.parse_duration, "-1s"),
        (units.parse_duration, "1e9s"),
        (units.parse_duration, "nan"),
        (units.parse_duration, "1h30m"),
        (units.parse_duration, "٣s"),
        (units.parse_duration, "1s\n2"),
        (units.parse_duration, "9" * 5000 + "s"),
        (units.parse_size, "2Mb"),
        (units.parse_size, "1.5"),
        (units.parse_size, "MB"),
        (units.parse_rate, "2M"),
        (units.parse_rate, "2MB/s"),
        (units.parse_rate, "2000"),
        (units.parse_rate, "0.5bps"),
    ],
)
def test_what_could_be_misread_is_refused(parse: Callable[[str], float], text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


@given(st.integers(0, 10**15))
def test_sizes_and_rates_survive_formatting(amount: int) -> None:
    assert units.parse_size(units.format_size(amount)) == amount
    assert units.parse_rate(units.format_rate(amount)) == amount


@given(st.integers(0, 10**9))
def test_durations_survive_formatting(milliseconds: int) -> None:
    assert units.parse_duration(units.format_duration(milliseconds / 1000)) == milliseconds / 1000


def test_formats_are_the_ones_people_write() -> None:
    assert [units.format_duration(s) for s in (0.2, 30.0, 3600.0, 5400.0, 90.0, 0.0)] == [
        "200ms",
        "30s",
        "1h",
        "90m",
        "90s",
        "0s",
    ]
    assert [units.format_size(n) for n in (256_000_000, 8 << 20, 1001, 0)] == ["256MB", "8MiB", "1001B", "0B"]
    assert units.format_rate(2_000_000) == "2Mbps"
