"""Refusals fill neither the logbook nor the memory; addresses are judged by number."""

from __future__ import annotations

import pytest
from i2_transport_tcp.address import host_port, is_loopback
from i2_transport_tcp.lobby import RefusalLog
from trio.testing import MockClock


async def test_each_address_is_said_once_in_a_window(mock_clock: MockClock) -> None:
    said: list[str] = []
    log = RefusalLog(said.append)
    for _ in range(1000):
        log.refused("192.0.2.7", "no")
    log.refused("192.0.2.8", "no")
    assert said == ["connection from 192.0.2.7 refused: no", "connection from 192.0.2.8 refused: no"]
    mock_clock.jump(log.WINDOW_S)
    said.clear()
    log.refused("192.0.2.7", "no")
    assert said == [
        "999 more connections were refused since the last such line",
        "connection from 192.0.2.7 refused: no",
    ]


async def test_many_addresses_are_only_counted(mock_clock: MockClock) -> None:
    said: list[str] = []
    log = RefusalLog(said.append)
    for number in range(5000):
        log.refused(f"2001:db8::{number:x}", "no")
    assert len(said) == log.ADDRESSES
    mock_clock.jump(log.WINDOW_S)
    log.refused("192.0.2.7", "no")
    assert said[log.ADDRESSES].startswith(f"{5000 - log.ADDRESSES} more")


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::1%lo", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("128.0.0.1", False),
    ],
)
def test_loopback(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_host_port() -> None:
    assert host_port("backup", 1) == "backup:1"
    assert host_port("::1", 1) == "[::1]:1"
