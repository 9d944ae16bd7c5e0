"""Readers of single values: each converts a TOML value into a value of the model, or raises `Wrong`.

Nothing is converted silently: ``"yes"`` is not a flag, ``1`` is not a text, ``"./data"`` is not a path.
"""

from __future__ import annotations

import datetime
import difflib
import enum
import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from i2core.api import UsageError
from i2core.config import units
from i2core.config.words import Words, both

T = TypeVar("T")
E = TypeVar("E", bound=enum.Enum)
Read = Callable[[object], T]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Wrong(Exception):
    """The value is not valid for its key; `allowed` describes the valid ones."""

    def __init__(self, message: Words, allowed: Words | None = None) -> None:
        super().__init__(message.en)
        self.message = message
        self.allowed = allowed


def quoted(value: object) -> str:
    """A value for a message: quoted, with control characters and stray bytes escaped, cut when too long."""
    if isinstance(value, bytes):
        value = written(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _kind(value: object) -> Words:
    if isinstance(value, dict):
        return Words("a table", "表")
    if isinstance(value, list):
        return Words("an array", "数组")
    if isinstance(value, str):
        return Words(f"the text {quoted(value)}", f"文本 {quoted(value)}")
    return both(quoted(value) if isinstance(value, bool | int | float) else str(value))


def wrong_type(value: object, wanted: Words) -> Wrong:
    """The error for a `value` that has another type than `wanted`."""
    kind = _kind(value)
    return Wrong(Words(f"wrong type: {kind.en}", f"类型错误：{kind.zh}"), wanted)


def not_one_of(value: object, words: Iterable[str], *, kind: Words | None = None) -> Wrong:
    """The error for a `value` that is none of `words`; the nearest word is proposed."""
    known = list(words)
    what = kind or Words("value", "值")
    near = did_you_mean(str(value), known)
    message = Words(
        f"unknown {what.en} {quoted(value)}{near.en}",
        f"未知的{what.zh} {quoted(value)}{near.zh}",
    )
    return Wrong(message, both(", ".join(known)) if known else Words("(none)", "（无）"))


def did_you_mean(word: str, known: Iterable[str]) -> Words:
    """A proposal to append to a message; empty when no word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return Words(f", did you mean {near[0]!r}?", f"，是否指 {near[0]!r}？") if near else both("")


# ------------------------------------------------------------------------------------------------ plain values


def text(value: object) -> str:
    """Any text but the empty one."""
    if not isinstance(value, str):
        raise wrong_type(value, Words("text in quotes", "带引号的文本"))
    if not value:
        raise Wrong(Words("must not be empty", "不能为空"))
    return value


def flag(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise wrong_type(value, both("true, false"))
    return value


def whole(least: int, most: int | None = None) -> Read[int]:
    """An integer from `least` to `most`, both included."""
    allowed = Words(f"a whole number, at least {least}", f"不小于 {least} 的整数")
    if most is not None:
        allowed = Words(f"a whole number from {least} to {most}", f"{least} 到 {most} 的整数")

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(value, allowed)
        if value < least or (most is not None and value > most):
            raise Wrong(Words(f"{value} is out of range", f"{value} 超出范围"), allowed)
        return value

    return read


port = whole(1, 65535)


def share(value: object) -> float:
    """A number above 0 and up to 1."""
    allowed = Words("a number above 0, up to 1", "大于 0 且不大于 1 的数")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, allowed)
    if not 0 < value <= 1:
        raise Wrong(Words(f"{value} is out of range", f"{value} 超出范围"), allowed)
    return float(value)


def word(kind: type[E]) -> Read[E]:
    """One of an enum's values."""
    words = [str(member.value) for member in kind]

    def read(value: object) -> E:
        if not isinstance(value, str):
            raise wrong_type(value, both(", ".join(words)))
        if value not in words:
            raise not_one_of(value, words)
        return kind(value)

    return read


# ------------------------------------------------------------------------------------------------ quantities


def duration(least_s: float = 0.0, *, zero: bool = False, most_s: float | None = None) -> Read[float]:
    """Seconds from ``"30s"``; at least `least_s`, or 0 if `zero` is allowed; at most `most_s`."""
    least = units.format_duration(least_s)
    more = Words(f", at least {least}", f"，不小于 {least}") if least_s else both("")
    if most_s is not None:
        most = units.format_duration(most_s)
        more = Words(f"{more.en}, at most {most}", f"{more.zh}，不大于 {most}")
    none = Words(', or "0"', '，或 "0"') if zero else both("")
    fits = [f'"{text}"' for text in ("200ms", "30s", "1h", "1d") if units.parse_duration(text) >= least_s]
    allowed = Words(f"like {', '.join(fits)}{more.en}{none.en}", f"如 {'、'.join(fits)}{more.zh}{none.zh}")

    def read(value: object) -> float:
        if isinstance(value, int) and not isinstance(value, bool) and value == 0:
            seconds = 0.0
        elif not isinstance(value, str):
            raise wrong_type(value, allowed)
        else:
            try:
                seconds = units.parse_duration(value)
            except UsageError:
                raise Wrong(Words(f"{quoted(value)} is not a duration", f"{quoted(value)} 不是时长"), allowed) from None
        if seconds == 0 and zero:
            return seconds
        if seconds <= 0 or seconds < least_s:
            raise Wrong(Words(f"{quoted(value)} is too short", f"{quoted(value)} 太短"), allowed)
        if most_s is not None and seconds > most_s:
            raise Wrong(Words(f"{quoted(value)} is too long", f"{quoted(value)} 太长"), allowed)
        return seconds

    return read


def size(least: int) -> Read[int]:
    """Bytes from ``"256MB"``, ``"8MiB"`` or a plain number."""
    low = units.format_size(least)
    allowed = Words(f'like "256MB", "8MiB", at least {low}', f'如 "256MB"、"8MiB"，不小于 {low}')

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise wrong_type(value, allowed)
        try:
            size_bytes = value if isinstance(value, int) else units.parse_size(value)
        except UsageError:
            raise Wrong(Words(f"{quoted(value)} is not a size", f"{quoted(value)} 不是容量"), allowed) from None
        if size_bytes < least:
            raise Wrong(Words(f"{quoted(value)} is too small", f"{quoted(value)} 太小"), allowed)
        return size_bytes

    return read


def rate(value: object) -> int:
    """Bits a second from ``"2Mbps"``; 0 is a valid rate."""
    allowed = Words('like "2Mbps", "512kbps" (bits a second), or "0"', '如 "2Mbps"、"512kbps"（比特每秒），或 "0"')
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    if not isinstance(value, str):
        raise wrong_type(value, allowed)
    try:
        return units.parse_rate(value)
    except UsageError:
        raise Wrong(Words(f"{quoted(value)} is not a rate", f"{quoted(value)} 不是速率"), allowed) from None


def hours(value: object) -> tuple[int, int]:
    """Minutes of the day (first, end) from ``"08:00-18:00"``; the end may be 24:00, or earlier than the first: then
    the window reaches into the next day."""
    allowed = both('"08:00-18:00", "22:00-06:00", "00:00-24:00"')
    if not isinstance(value, str):
        raise wrong_type(value, allowed)
    found = re.fullmatch(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", value)
    if found:
        first_hour, first_minute, end_hour, end_minute = map(int, found.groups())
        first, end = first_hour * 60 + first_minute, end_hour * 60 + end_minute
        if first_minute < 60 and end_minute < 60 and first < 1440 and end <= 1440 and first != end:
            return first, end
    raise Wrong(Words(f"{quoted(value)} is not a span of hours", f"{quoted(value)} 不是时间段"), allowed)


def moment(value: object) -> datetime.datetime:
    """Local wall-clock time from ``"2026-01-01T00:00"`` or a TOML date-time without offset."""
    allowed = Words('local time like "2026-01-01T00:00"', '本地时间，如 "2026-01-01T00:00"')
    found = value
    if isinstance(value, str):
        try:
            found = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise Wrong(Words(f"{quoted(value)} is not a time", f"{quoted(value)} 不是时间"), allowed) from None
    if not isinstance(found, datetime.datetime):
        raise wrong_type(value, allowed)
    if found.tzinfo is not None:
        raise Wrong(Words("a time zone is not allowed here", "此处不接受时区"), allowed)
    return found


# ------------------------------------------------------------------------------------------------ names, paths


def written(path: bytes) -> str:
    """A path as text of a config: decoded as UTF-8 in every locale, stray bytes as lone surrogates."""
    return path.decode("utf-8", "surrogateescape")


def absolute_path(value: object) -> bytes:
    """An absolute path as bytes, without doubled or trailing slashes: the inverse of `written`. The disk is not
    accessed."""
    allowed = Words("an absolute path, without . and ..", "绝对路径，不含 . 和 ..")
    if not isinstance(value, str):
        raise wrong_type(value, allowed)
    if not value:
        raise Wrong(Words("must not be empty", "不能为空"), allowed)
    if "\0" in value:
        raise Wrong(Words("holds a NUL character", "含有 NUL 字符"), allowed)
    if not value.startswith("/"):
        raise Wrong(Words(f"{quoted(value)} is a relative path", f"{quoted(value)} 是相对路径"), allowed)
    parts = [part for part in value.split("/") if part]
    if "." in parts or ".." in parts:
        raise Wrong(Words(f"{quoted(value)} holds . or ..", f"{quoted(value)} 含有 . 或 .."), allowed)
    return ("/" + "/".join(parts)).encode("utf-8", "surrogateescape")


def directory_below_root(value: object) -> bytes:
    """An absolute path other than ``/``: a directory that is written to and cleared must not be the whole system."""
    path = absolute_path(value)
    if path == b"/":
        raise Wrong(
            Words("must not be / itself", "不能是根目录 /"), Words("an absolute path below /", "根目录以下的绝对路径")
        )
    return path


def name(value: object) -> str:
    """A name for people that is also safe in commands and file names."""
    allowed = Words(
        "up to 100 printable bytes, without /, without leading or trailing blanks, not starting with '.' or '-'",
        "至多 100 字节的可见文本，不含 /，首尾无空格，不以 . 或 - 开头",
    )
    found = text(value)
    fits = found.isprintable() and "/" not in found and found == found.strip() and len(found.encode()) <= 100
    if not fits or found[0] in ".-":
        raise Wrong(Words(f"{quoted(found)} is not a valid name", f"{quoted(found)} 不是合法名称"), allowed)
    return found


def received_rule(value: object) -> str:
    """A received rule: ``RULE``, or ``PEER/RULE``."""
    parts = text(value).split("/")
    if len(parts) > 2:
        allowed = Words(
            '"data1", or with the work node it comes from: "web1/data1"', '"data1"，或注明来源工作机："web1/data1"'
        )
        raise Wrong(Words(f"{quoted(text(value))} is not a rule", f"{quoted(text(value))} 不是规则"), allowed)
    return "/".join(name(part) for part in parts)


def fingerprint(value: object) -> str:
    """``sha256:`` and 64 hex digits, returned in lower case."""
    allowed = Words(
        "sha256: and 64 hex digits (i2 node id shows it)", "sha256: 加 64 位十六进制数（i2 node id 可查看）"
    )
    found = text(value)
    if not re.fullmatch(r"sha256:[0-9a-fA-F]{64}", found):
        raise Wrong(Words(f"{quoted(found)} is not a fingerprint", f"{quoted(found)} 不是指纹"), allowed)
    return found.lower()


_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def host(value: object) -> str:
    """A host name or an IP address, without a port."""
    allowed = Words("a host name or an IP address, without a port", "主机名或 IP 地址，不含端口")
    found = text(value)
    try:
        return str(ipaddress.ip_address(found))
    except ValueError:
        labels = found.removesuffix(".").split(".")
        # A last label of digits alone is not a host name but a mistyped IPv4 address (RFC 3696, 2).
        if len(found) > 253 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
            raise Wrong(Words(f"{quoted(found)} is not an address", f"{quoted(found)} 不是地址"), allowed) from None
        return found


def is_loopback(address: str) -> bool:
    """True for addresses that never leave the host: 127.0.0.0/8, ::1 and the name localhost."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


def pattern(value: object) -> str:
    """A pattern for file names such as ``*.doc``."""
    found = text(value)
    if "/" in found or "\0" in found:
        raise Wrong(
            Words(f"{quoted(found)} is not a file name pattern", f"{quoted(found)} 不是文件名模式"),
            Words('like "*.doc"; whole paths belong into exclude', '如 "*.doc"；路径请写入 exclude'),
        )
    return found


def day(value: object) -> int:
    """0 for "mon" to 6 for "sun"."""
    if not isinstance(value, str):
        raise wrong_type(value, both(", ".join(DAYS)))
    if value not in DAYS:
        raise not_one_of(value, DAYS, kind=Words("day", "星期"))
    return DAYS.index(value)
