"""Applies the bandwidth limits of the weekly tables, by the wall clock as it is at each check.

The checks themselves are timed by the monotonic clock. So a wall clock that is set is noticed within seconds, and
summer time needs no special handling.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable

import trio

from i2core.api import Code
from i2core.config.units import format_rate
from i2core.config.words import bilingual
from i2core.limits.timetable import limit_at, next_change
from i2core.node.daemon.clock import ClockWatch
from i2core.node.daemon.running import RunningNode
from i2core.rule.life.report import Line

LOOK_S = 5.0
"""Most seconds between two checks of the clock."""


async def keep_limits(node: RunningNode, *, wall: Callable[[], float] = time.time) -> None:
    """Sets the limits at each start and end of a window of the tables, until cancelled. `wall`: seconds since 1970."""
    watch = ClockWatch(wall(), trio.current_time())
    while True:
        wall_s = wall()
        jump = watch.look(wall_s, trio.current_time())
        if jump is not None:
            node.logbook.say("", Code.TIME_STAMP, _jumped(jump))
        local = datetime.datetime.fromtimestamp(wall_s)
        set_limits(node, local)
        await trio.sleep(_until_next_look(node, local))


def set_limits(node: RunningNode, local: datetime.datetime | None = None) -> None:
    """Sets the limits of the tables for that local time (None: now), and notifies the rules."""
    local = local or datetime.datetime.now()
    role = node.config.work
    node.limit.set(None if role is None else limit_at(role.bandwidth, local))
    for rule in node.config.rules:
        runner = node.runners.get(rule.name)
        if runner is not None:
            runner.throttle.own.set(limit_at(rule.bandwidth, local))
    for runner in node.runners.values():
        before, now = runner.status.bandwidth_bps, runner.throttle.bps
        runner.limited()
        if now and now != before:
            rate = format_rate(now)
            node.logbook.say(runner.name, None, bilingual(f"limited to {rate}", f"带宽限制为 {rate}"))
        elif now is None and before is not None:
            node.logbook.say(runner.name, None, bilingual("no longer limited", "带宽不再受限"))


def _until_next_look(node: RunningNode, local: datetime.datetime) -> float:
    tables = [rule.bandwidth for rule in node.config.rules]
    if node.config.work is not None:
        tables.append(node.config.work.bandwidth)
    edges = [edge for table in tables if (edge := next_change(table, local)) is not None]
    return min([LOOK_S, *((edge - local).total_seconds() for edge in edges)])


def _jumped(jump_s: float) -> Line:
    cause = bilingual(f"the wall clock jumped by {jump_s:+.1f} s", f"系统时间被调整了 {jump_s:+.1f} 秒")
    step = bilingual("nothing to do: replication does not depend on it", "无需处理：复制不依赖系统时间")
    return Line(f"{cause}; {step}", cause=cause, next_step=step)
