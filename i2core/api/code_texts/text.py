"""The texts of one code."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Level(enum.Enum):
    """How bad it is: `INFO` resolves itself, `ERROR` needs a look, `FATAL` stops the node."""

    INFO = "info"
    ERROR = "error"
    FATAL = "fatal"


class CodeText(NamedTuple):
    """The texts of one code: what happened, what usually causes it, and what to do next."""

    level: Level
    en: str
    zh: str
    cause_en: str
    cause_zh: str
    next_en: str
    next_zh: str
