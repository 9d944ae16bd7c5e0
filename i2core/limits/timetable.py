"""The bandwidth limit of a weekly table at a given moment. Pure, so that no test waits for Monday.

All times are local wall-clock times without a zone, as the table's hours are. A caller that asks again
every few seconds is correct after any change of the clock, also at the start or end of summer time.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from i2core.config.model import BandwidthWindow

DAY_MINUTES = 24 * 60


def limit_at(windows: Sequence[BandwidthWindow], local: datetime.datetime) -> int | None:
    """Bits a second: the lowest limit of the open windows; None if no window is open."""
    return min((window.limit_bps for window in windows if _open(window, local)), default=None)


def next_change(windows: Sequence[BandwidthWindow], local: datetime.datetime) -> datetime.datetime | None:
    """The first moment after `local` at which the result of `limit_at` changes; None if it never does."""
    now = limit_at(windows, local)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = {minute % DAY_MINUTES for window in windows for minute in (window.first_minute, window.end_minute)}
    # The table repeats after a week, so one week covers all changes.
    for day in range(8):
        for minute in sorted(edges):
            edge = midnight + datetime.timedelta(days=day, minutes=minute)
            if edge > local and limit_at(windows, edge) != now:
                return edge
    return None


def _open(window: BandwidthWindow, local: datetime.datetime) -> bool:
    minute, today = local.hour * 60 + local.minute, local.weekday()
    if window.first_minute < window.end_minute:
        return today in window.days and window.first_minute <= minute < window.end_minute
    yesterday = (today - 1) % 7
    return (today in window.days and minute >= window.first_minute) or (
        yesterday in window.days and minute < window.end_minute
    )
