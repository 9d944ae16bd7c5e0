"""Durations, sizes and rates as people write them. A number without its unit is refused if it is ambiguous:
"30" could be seconds or minutes, "2M" bits or bytes.

==========  =============================================  ==========================
kind        units                                          examples
==========  =============================================  ==========================
duration    ms, s, m, h, d                                 200ms, 30s, 1h, 1.5h
size        B, kB, MB, GB, TB (1000); KiB … TiB (1024)     256MB, 8MiB, 4096
rate        bps, kbps, Mbps, Gbps (1000, bits a second)    2Mbps, 512kbps, 0
==========  =============================================  ==========================
"""

from __future__ import annotations

import re
from fractions import Fraction

from i2core.api import UsageError

DURATIONS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)}
SIZES = {
    "B": Fraction(1),
    "kB": Fraction(10**3),
    "MB": Fraction(10**6),
    "GB": Fraction(10**9),
    "TB": Fraction(10**12),
    "KiB": Fraction(2**10),
    "MiB": Fraction(2**20),
    "GiB": Fraction(2**30),
    "TiB": Fraction(2**40),
}
RATES = {"bps": Fraction(1), "kbps": Fraction(10**3), "Mbps": Fraction(10**6), "Gbps": Fraction(10**9)}

# The number of digits is bounded, so that every accepted number fits a float and a 64-bit field.
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")


def _parse(text: str, units: dict[str, Fraction], what: str, bare: str | None) -> Fraction:
    found = _AMOUNT.fullmatch(text.strip())
    if found:
        number, unit = Fraction(found[1]), found[2]
        if unit in units:
            return number * units[unit]
        if not unit and number == 0:
            return number
        if not unit and bare is not None:
            return number * units[bare]
    raise UsageError(f"{text!r} is not a valid {what}: use a number and one of {', '.join(units)}")


def _whole(amount: Fraction, text: str, what: str) -> int:
    if amount.denominator != 1:
        raise UsageError(f"{text!r} is not a whole number of {what}")
    return amount.numerator


def parse_duration(text: str) -> float:
    """Seconds. "0" needs no unit.

    Raises:
        UsageError: no number, or no known unit.
    """
    return float(_parse(text, DURATIONS, "duration", None))


def parse_size(text: str) -> int:
    """Bytes. A number without a unit is bytes.

    Raises:
        UsageError: no number, no known unit, or parts of a byte.
    """
    return _whole(_parse(text, SIZES, "size", "B"), text, "bytes")


def parse_rate(text: str) -> int:
    """Bits a second. "0" needs no unit.

    Raises:
        UsageError: no number, no known unit, or parts of a bit.
    """
    return _whole(_parse(text, RATES, "rate", None), text, "bits a second")


def _format(amount: Fraction, units: dict[str, Fraction], smallest: str) -> str:
    for unit, factor in sorted(units.items(), key=lambda item: item[1], reverse=True):
        if amount and (amount / factor).denominator == 1:
            return f"{amount / factor}{unit}"
    number = f"{float(amount / units[smallest]):.9f}".rstrip("0").rstrip(".")
    return f"{number}{smallest}"


def format_duration(seconds: float) -> str:
    """The shortest exact text with the largest unit that fits: 3600.0 is "1h", 0.2 is "200ms"."""
    return _format(Fraction(str(seconds)), DURATIONS, "ms" if 0 < seconds < 1 else "s")


def format_size(size_bytes: int) -> str:
    """Exact, in the largest unit that fits: 256000000 is "256MB", 8388608 is "8MiB", 1001 is "1001B"."""
    return _format(Fraction(size_bytes), SIZES, "B")


def format_rate(bits_per_second: int) -> str:
    """Exact, in the largest unit that fits: 2000000 is "2Mbps"."""
    return _format(Fraction(bits_per_second), RATES, "bps")
