"""Begins the compares that the config asks for."""

from __future__ import annotations

import datetime
import math

import trio

from i2core.api import Code, I2Error
from i2core.config.model import ComparePlan
from i2core.node.daemon.compares import Asked
from i2core.node.daemon.running import RunningNode
from i2core.node.daemon.tasks import TaskState

TICK_S = 10.0
_SCHEDULE = "schedule"


def last_due(plan: ComparePlan, last: datetime.datetime, now: datetime.datetime) -> datetime.datetime | None:
    """When a compare was to begin after `last`, the time at which the one before began, or the node began to follow the
    plan; None: none was. Of several the last one. All are local wall-clock times."""
    start = plan.start or last + datetime.timedelta(seconds=plan.every_s)
    turns = math.floor((now - start).total_seconds() / plan.every_s)
    due = start + datetime.timedelta(seconds=turns * plan.every_s)
    return due if turns >= 0 and due > last else None


async def keep_comparing(node: RunningNode) -> None:
    """Begins each compare when it is due, or as soon as the node runs again. One that would begin before the last one
    has ended is left out."""
    followed: dict[str, tuple[ComparePlan, datetime.datetime]] = {}
    while True:
        for rule in node.config.rules:
            plan, now = rule.compare, datetime.datetime.now()
            if plan is not None:
                if rule.name not in followed or followed[rule.name][0] != plan:
                    followed[rule.name] = (plan, now)
                await _begin_if_due(node, rule.name, plan, followed[rule.name][1], now)
        await trio.sleep(TICK_S)


async def _begin_if_due(
    node: RunningNode, name: str, plan: ComparePlan, since: datetime.datetime, now: datetime.datetime
) -> None:
    scheduled = next((task for task in node.compares.of(name) if task.asked["by"] == _SCHEDULE), None)
    last = since if scheduled is None else datetime.datetime.fromtimestamp(scheduled.began_ns / 1e9)
    if last_due(plan, last, now) is None or (scheduled is not None and scheduled.state is TaskState.RUNNING):
        return
    try:
        await node.compares.begin(name, Asked(strict=plan.strict, mend=plan.mend, by=_SCHEDULE))
    except (I2Error, OSError) as error:
        code = error.code if isinstance(error, I2Error) else Code.INTERNAL
        node.logbook.say(name, code, f"no compare was begun: {error}")
