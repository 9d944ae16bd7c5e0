"""Moments as people write them, to the nanosecond and never ambiguous.

    2026-11-29T22:31:07.123456          in the work node's zone
    2026-11-29 22:31                    the same, shorter
    2026-11-29T22:31:07+08:00, …Z, …[Asia/Shanghai]
    -90s, -1.5h, -2d                    before now
    now

The local hour that comes twice when summer time ends is refused with both readings, and one that is left out when it
begins is refused as well: never silently another moment than was asked for.
"""

from __future__ import annotations

import datetime
import re
from fractions import Fraction
from typing import NamedTuple

from i2core.api import UsageError
from i2core.config.units import DURATIONS
from i2core.config.words import Bilingual, bilingual
from i2core.history.moments.zones import offset_text, zone

EXAMPLES = "2026-11-29T22:31:07.123456, 2026-11-29T22:31:07+08:00, -90s"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_AGO = re.compile(r"-(\d{1,15}(?:\.\d{1,9})?) ?(ms|s|m|h|d)")
_STAMP = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?"
    r"(?: ?(Z|UTC|[+-]\d{2}:?\d{2})| ?\[([\w/+-]+)\])?)?"
)
_FARTHEST_NS = 1 << 63
"""What an index can compare times with."""


class _Stamp(NamedTuple):
    """The parts of a written moment."""

    local: datetime.datetime
    """Whole seconds, without a zone."""
    fraction_ns: int
    zone: datetime.tzinfo

    def at(self, fold: int) -> datetime.datetime:
        """With the zone; `fold` chooses where the local time comes twice."""
        return self.local.replace(tzinfo=self.zone, fold=fold)

    def is_real(self, fold: int) -> bool:
        """True unless the local time is left out."""
        there = self.at(fold)
        back = there.astimezone(datetime.UTC).astimezone(self.zone)
        return back.replace(tzinfo=None) == self.local


def parse_moment(text: str, *, work_zone: datetime.tzinfo, now_ns: int) -> int:
    """Nanoseconds since the epoch, in 64 bits with a sign: the years 1678 to 2261.

    Raises:
        UsageError: no moment, an ambiguous one, or one that does not exist.
    """
    text = text.strip()
    time_ns = _parsed(text, work_zone, now_ns)
    if not -_FARTHEST_NS <= time_ns < _FARTHEST_NS:
        raise _no_moment(text)
    return time_ns


def _parsed(text: str, work_zone: datetime.tzinfo, now_ns: int) -> int:
    if text == "now":
        return now_ns
    ago = _AGO.fullmatch(text)
    if ago:
        return now_ns - round(Fraction(ago[1]) * DURATIONS[ago[2]] * 10**9)
    stamp = _stamp(text, work_zone)
    readings = {fold: _ns(stamp.at(fold)) for fold in (0, 1) if stamp.is_real(fold)}
    if not readings:
        raise UsageError(_left_out(text, stamp), obj=text)
    if len(set(readings.values())) > 1:
        raise UsageError(_twice(text), obj=text, next_step=_one_of(stamp))
    return next(iter(readings.values())) + stamp.fraction_ns


def _stamp(text: str, work_zone: datetime.tzinfo) -> _Stamp:
    found = _STAMP.fullmatch(text)
    if not found:
        raise _no_moment(text)
    day, minute, second, fraction, offset, name = found.groups()
    try:
        local = datetime.datetime.fromisoformat(f"{day}T{minute or '00:00'}:{second or '00'}")
    except ValueError:
        raise _no_moment(text) from None
    where = zone(offset or name) if offset or name else work_zone
    try:
        local.replace(tzinfo=where).astimezone(datetime.UTC)
    except OverflowError:
        raise _no_moment(text) from None
    return _Stamp(local, int((fraction or "0").ljust(9, "0")), where)


def format_moment(time_ns: int, where: datetime.tzinfo) -> str:
    """As `parse_moment` reads it, always with its offset; microseconds, or nanoseconds where there are some."""
    seconds, fraction_ns = divmod(time_ns, 10**9)
    local = (_EPOCH + datetime.timedelta(seconds=seconds)).astimezone(where)
    fraction = f"{fraction_ns:09}" if fraction_ns % 1000 else f"{fraction_ns // 1000:06}"
    return f"{local.replace(tzinfo=None).isoformat()}.{fraction}{offset_text(local)}"


def _ns(time: datetime.datetime) -> int:
    since = time - _EPOCH
    return (since.days * 86400 + since.seconds) * 10**9


def _no_moment(text: str) -> UsageError:
    return UsageError(
        bilingual(f"{text!r} is no moment", f"{text!r} 不是有效的时刻"),
        next_step=bilingual(f"write it as {EXAMPLES}", f"请写成 {EXAMPLES}"),
    )


def _twice(text: str) -> Bilingual:
    return bilingual(
        f"the local time {text} comes twice, because clocks are set back", f"本地时间 {text} 因时钟回拨出现两次"
    )


def _one_of(stamp: _Stamp) -> Bilingual:
    first, second = (f"{stamp.local.isoformat()}{offset_text(stamp.at(fold))}" for fold in (0, 1))
    return bilingual(f"give {first} or {second}", f"请写成 {first} 或 {second}")


def _left_out(text: str, stamp: _Stamp) -> Bilingual:
    # What the clock shows when the hour that is left out would be over: the offset of before leads there.
    shown = stamp.at(0).astimezone(datetime.UTC).astimezone(stamp.zone).replace(tzinfo=None).isoformat()
    return bilingual(
        f"the local time {text} does not exist, because clocks are set forward; they show {shown} then",
        f"本地时间 {text} 因时钟前拨而不存在；那时时钟显示 {shown}",
    )
