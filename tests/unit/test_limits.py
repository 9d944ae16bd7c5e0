"""The limits in force follow the weekly tables by the wall clock, also when somebody sets it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from i2core.api import Code
from i2core.config.model import BandwidthWindow, NodeConfig, Pair, Rule, WorkRole
from i2core.limits.throttle import RateLimit, Throttle
from i2core.node.daemon.clock import ClockWatch
from i2core.node.daemon.limits import LOOK_S, keep_limits, set_limits
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.node.daemon.running import RunningNode
from i2core.rule.life.life import Life
from i2core.rule.life.states import Event
from i2core.rule.life.status import State

OFFICE = BandwidthWindow(days=frozenset(range(5)), first_minute=8 * 60, end_minute=18 * 60, limit_bps=2_000_000)
NIGHT = BandwidthWindow(days=frozenset(range(7)), first_minute=22 * 60, end_minute=6 * 60, limit_bps=0)
MONDAY = datetime.datetime(2026, 1, 5)


@attrs.define
class Wall:
    """A wall clock that a test can set; it runs with trio's clock."""

    ahead_s: float = 0.0

    def read(self) -> float:
        """Seconds since 1970."""
        return trio.current_time() + self.ahead_s

    def set(self, local: datetime.datetime) -> None:
        """From now on it is that time."""
        self.ahead_s = local.timestamp() - trio.current_time()


@attrs.define
class Site:
    """A node with one rule that mirrors at once and then replicates."""

    node: RunningNode
    runner: RuleRunner
    said: list[tuple[str, Code | None, str]]

    @property
    def bps(self) -> int | None:
        """What the rule may send."""
        return self.runner.throttle.bps


async def _run(life: Life) -> None:
    life.advance(Event.MIRROR_DONE)
    await trio.sleep_forever()


@asynccontextmanager
async def site(rule: tuple[BandwidthWindow, ...] = (), work: tuple[BandwidthWindow, ...] = ()) -> AsyncIterator[Site]:
    pairs = (Pair(source=b"/s", target=b"/t"),)
    config = NodeConfig(
        path=Path("n.toml"),
        name="web1",
        state_dir=Path("/nowhere"),
        work=WorkRole(bandwidth=work),
        rules=(Rule(name="data1", backup="bak", pairs=pairs, bandwidth=rule),),
    )
    said: list[tuple[str, Code | None, str]] = []

    def say(name: str, code: Code | None, line: str) -> None:
        said.append((name, code, line))

    limit = RateLimit()
    runner = RuleRunner("data1", _run, say, Throttle([limit]))
    node = SimpleNamespace(config=config, limit=limit, runners={"data1": runner}, logbook=SimpleNamespace(say=say))
    async with trio.open_nursery() as nursery:
        runner.start(nursery)
        yield Site(cast(RunningNode, node), runner, said)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def kept(place: Site, wall: Wall) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(keep_limits, place.node, wall=wall.read))
        yield
        nursery.cancel_scope.cancel()


async def test_a_limit_begins_and_ends_with_its_window(autojump_clock: MockClock) -> None:
    wall = Wall()
    async with site(rule=(OFFICE,)) as place, kept(place, wall):
        wall.set(MONDAY + datetime.timedelta(hours=7, minutes=59))
        await trio.sleep(LOOK_S + 1)
        assert place.bps is None
        await trio.sleep(60 - LOOK_S - 1 - 0.1)
        assert place.bps is None
        await trio.sleep(0.2)
        assert place.runner.status.as_json()["bandwidth_bps"] == place.runner.throttle.bps == 2_000_000
        await trio.sleep(10 * 3600)
        assert place.bps is None
        lines = [line for name, code, line in place.said if name == "data1" and code is None]
        assert len(lines) == 2
        assert "2Mbps" in lines[0]


async def test_the_clock_may_be_set_at_any_time(autojump_clock: MockClock) -> None:
    wall = Wall()
    async with site(rule=(OFFICE,)) as place:
        wall.set(MONDAY)
        async with kept(place, wall):
            await trio.sleep(1)
            for local, bps in (
                (MONDAY + datetime.timedelta(hours=12), 2_000_000),
                (MONDAY - datetime.timedelta(hours=12), None),
                (datetime.datetime(2036, 1, 7, 9), 2_000_000),
                (datetime.datetime(1971, 1, 1), None),
            ):
                wall.set(local)
                await trio.sleep(LOOK_S)
                assert place.bps == bps
            assert [code for _, code, _ in place.said].count(Code.TIME_STAMP) == 4
            await trio.sleep(100 * LOOK_S)
        assert [code for _, code, _ in place.said].count(Code.TIME_STAMP) == 4


async def test_a_night_without_bandwidth_stops_the_rule_until_morning(autojump_clock: MockClock) -> None:
    wall = Wall()
    async with site(rule=(NIGHT,)) as place:
        wall.set(MONDAY + datetime.timedelta(hours=21))
        async with kept(place, wall):
            await trio.sleep(1)
            assert place.runner.status.state is State.REPLICATING
            await trio.sleep(3600)
            assert place.runner.status.as_json()["reason"] == "bandwidth"
            await trio.sleep(8 * 3600)
            assert place.runner.status.state is State.REPLICATING


async def test_the_nodes_own_limit_holds_for_its_rules(autojump_clock: MockClock) -> None:
    async with site(rule=(OFFICE,), work=(attrs.evolve(OFFICE, limit_bps=1_000_000), NIGHT)) as place:
        for hour, bps in ((12, 1_000_000), (20, None), (23, 0), (7, None)):
            set_limits(place.node, MONDAY + datetime.timedelta(hours=hour))
            await trio.testing.wait_all_tasks_blocked()
            assert (place.bps, place.runner.running) == (bps, bps != 0)


def test_small_steps_come_from_the_time_service() -> None:
    watch = ClockWatch(1000.0, 5.0)
    assert watch.look(1005.9, 10.0) is None
    assert watch.look(1065.9, 15.0) == pytest.approx(55.0)
    assert watch.look(900.0, 16.0) is not None
    assert watch.look(905.0, 21.0) is None
