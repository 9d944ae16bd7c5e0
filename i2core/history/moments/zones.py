"""Time zones by their names: the work node tells its own, and the backup node reads moments in it."""

from __future__ import annotations

import datetime
import os
import re
import zoneinfo

from i2core.api import UsageError
from i2core.config.words import bilingual

_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")
_LOCALTIME = "/etc/localtime"
_DATABASE = "/zoneinfo/"


def zone(name: str) -> datetime.tzinfo:
    """The zone of a name (``Asia/Shanghai``), of an offset (``+08:00``), or ``UTC``, ``Z``.

    Raises:
        UsageError: this system does not know it.
    """
    if name in ("Z", "UTC"):
        return datetime.UTC
    offset = _OFFSET.fullmatch(name)
    if offset:
        minutes = int(offset[2]) * 60 + int(offset[3])
        if minutes < 24 * 60:
            return datetime.timezone(datetime.timedelta(minutes=-minutes if offset[1] == "-" else minutes))
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            bilingual(f"no time zone {name!r} is known here", f"本机没有时区 {name!r}"),
            next_step=bilingual("write it as +08:00, or install tzdata", "请写成 +08:00 的形式，或安装 tzdata"),
        ) from None


def zone_or_local(name: str) -> datetime.tzinfo:
    """The zone of a name; this system's own where the name is empty or not known here."""
    try:
        return zone(name or local_zone_name())
    except UsageError:
        return zone(local_zone_name())


def local_zone_name() -> str:
    """The name of this system's zone; where it has none, its present offset."""
    for name in (os.environ.get("TZ", "").removeprefix(":"), _linked()):
        if name and _is_known(name):
            return name
    return offset_text(datetime.datetime.now().astimezone())


def _linked() -> str:
    """What /etc/localtime leads to."""
    _, found, name = os.path.realpath(_LOCALTIME).partition(_DATABASE)
    return name if found else ""


def _is_known(name: str) -> bool:
    try:
        zone(name)
    except UsageError:
        return False
    return True


def offset_text(time: datetime.datetime) -> str:
    """The offset of a time with a zone: ``+08:00``."""
    offset = time.utcoffset()
    assert offset is not None
    minutes = int(offset.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
