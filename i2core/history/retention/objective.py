"""What the config promises of the past against what is there, and when the disk will be full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from i2core.api.journal import MarkKind
from i2core.config.model import CdpRetention
from i2core.history.retention.policy import DAY_NS, Days, Retained, day_of

_WINDOWS_NS = (3600 * 10**9, 24 * 3600 * 10**9)
"""The rate of growth is looked at over the last hour and the last day: a burst counts at once, and a quiet hour after a
busy day does not make the forecast too good."""


@attrs.frozen(kw_only=True)
class Objective:
    """Whether the history objective is met."""

    promised_from_ns: int
    """Every moment from then on is promised: the policy's days, or since history began."""
    kept_from_ns: int
    """Every moment from then on is there."""
    missing_days: tuple[int, ...] = ()
    """Days without their mark, of those that are promised one (ordinals of the calendar)."""

    @property
    def is_met(self) -> bool:
        """True when all that is promised is there."""
        return self.kept_from_ns <= self.promised_from_ns and not self.missing_days


def objective(policy: CdpRetention, kept: Retained, *, now_ns: int, days: Days) -> Objective:
    """What is promised, and what is there."""
    promised_ns = max(now_ns - policy.detailed_days * DAY_NS, kept.begun_ns)
    floor_day = days.of(promised_ns)
    first = max(floor_day - policy.daily, days.of(kept.begun_ns))
    marked = {day_of(mark) for mark in kept.marks if mark.kind in (MarkKind.DAY, MarkKind.MONTH)}
    missing = (day for day in range(first, floor_day) if day not in marked and days.end_ns(day) <= kept.floor_ns)
    return Objective(promised_from_ns=promised_ns, kept_from_ns=kept.floor_ns, missing_days=tuple(missing))


class Used(NamedTuple):
    """How much the journal and its index took at a time."""

    time_ns: int
    used_bytes: int


def full_in_s(samples: Sequence[Used], free_bytes: int) -> float | None:
    """In how many seconds the disk is full if the journal goes on to grow as it does; None: it does not grow, or
    nothing is known. `samples`: oldest first."""
    rates = [rate for window_ns in _WINDOWS_NS if (rate := _growth(samples, window_ns)) is not None]
    fastest = max(rates, default=0.0)
    return free_bytes / fastest if fastest > 0 else None


def _growth(samples: Sequence[Used], window_ns: int) -> float | None:
    """Bytes a second, over the window or as much of it as is known."""
    if not samples:
        return None
    last = samples[-1]
    first = next(sample for sample in samples if last.time_ns - sample.time_ns <= window_ns)
    if first.time_ns == last.time_ns:
        return None
    return (last.used_bytes - first.used_bytes) * 1e9 / (last.time_ns - first.time_ns)
