"""Which bandwidth limit a weekly table sets at a moment: pure, so that no test waits for Monday.

All times are local wall-clock times without a zone, as the table's hours are. Who asks again every few seconds is
right after any change of the clock, also when summer time begins or ends.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from i2core.config.model import BandwidthWindow

DAY_MINUTES = 24 * 60


def limit_at(windows: Sequence[BandwidthWindow], local: datetime.datetime) -> int | None:
    """Bits a second: the lowest limit of the windows that are open; None when none is."""
    return min((window.limit_bps for window in windows if _open(window, local)), default=None)


def next_change(windows: Sequence[BandwidthWindow], local: datetime.datetime) -> datetime.datetime | None:
    """The first moment after `local` at which `limit_at` has another answer; None when it never has."""
    now = limit_at(windows, local)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    edges = {minute % DAY_MINUTES for window in windows for minute in (window.first_minute, window.end_minute)}
    # A week from now everything has been seen once, whatever the time of day is now.
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
