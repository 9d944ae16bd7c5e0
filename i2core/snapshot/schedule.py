"""When the next automatic snapshot is due, and which ones go: decisions about values, without clock or disk.

    start ──┬────────┬────────┬────────┬──▶      slots, `every` apart
            1        2        3   ▲
                                  now: slot 3 is due, unless the last automatic snapshot was taken for it

What was missed while the node was off is made up for by one snapshot, for the latest slot. A slot is compared with the
one before, not with a time: a clock that jumps far ahead and back costs one snapshot each time, and never stops the
schedule.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence

from i2core.config.model import SnapshotPlan
from i2core.snapshot.catalog import Snapshot

DAY_S = 86400
_EPOCH = datetime.datetime(1970, 1, 1)


def slot(plan: SnapshotPlan, zone: datetime.tzinfo, since_ns: int, now_ns: int) -> int | None:
    """The latest time of the schedule that has come; None: not even the first one.

    `zone`: that of `plan.start`, the work node's; a schedule of whole days keeps its time of day there when the clocks
    change. `since_ns`: without a start, the first slot is one interval later.
    """
    if plan.every_s is None:
        return None
    begin, step = _first(plan, zone, since_ns), plan.every_s
    if plan.start is not None and step % DAY_S == 0:
        local = _local(now_ns, zone)
        count = int((local - plan.start).total_seconds() // step)
        return _time_ns(plan.start + datetime.timedelta(seconds=count * step), zone) if count >= 0 else None
    step_ns = round(step * 1e9)
    return begin + (now_ns - begin) // step_ns * step_ns if now_ns >= begin else None


def next_slot(plan: SnapshotPlan, zone: datetime.tzinfo, since_ns: int, now_ns: int) -> int:
    """The first time of the schedule that has not come yet."""
    assert plan.every_s is not None
    current = slot(plan, zone, since_ns, now_ns)
    if current is None:
        return _first(plan, zone, since_ns)
    if plan.start is not None and plan.every_s % DAY_S == 0:
        return _time_ns(_local(current, zone) + datetime.timedelta(seconds=plan.every_s), zone)
    return current + round(plan.every_s * 1e9)


def is_due(current: int | None, snapshots: Sequence[Snapshot]) -> bool:
    """True when the slot that has come has no snapshot yet."""
    last = next((each.slot_ns for each in reversed(snapshots) if each.is_automatic), None)
    return current is not None and current != last


def surplus(snapshots: Sequence[Snapshot], keep: int, used: Collection[int]) -> list[Snapshot]:
    """The automatic snapshots that are too many, oldest first. Those that somebody uses stay, and count."""
    automatic = [each for each in snapshots if each.is_automatic]
    free = [each for each in automatic if each.ident not in used]
    return free[: max(len(automatic) - keep, 0)]


def _first(plan: SnapshotPlan, zone: datetime.tzinfo, since_ns: int) -> int:
    assert plan.every_s is not None
    return since_ns + round(plan.every_s * 1e9) if plan.start is None else _time_ns(plan.start, zone)


def _local(time_ns: int, zone: datetime.tzinfo) -> datetime.datetime:
    """A time as the wall clock shows it."""
    utc = _EPOCH.replace(tzinfo=datetime.UTC) + datetime.timedelta(microseconds=time_ns // 1000)
    return utc.astimezone(zone).replace(tzinfo=None)


def _time_ns(local: datetime.datetime, zone: datetime.tzinfo) -> int:
    """The time at which the wall clock shows this."""
    passed = local.replace(tzinfo=zone) - _EPOCH.replace(tzinfo=datetime.UTC)
    return (passed.days * DAY_S + passed.seconds) * 10**9 + passed.microseconds * 1000
