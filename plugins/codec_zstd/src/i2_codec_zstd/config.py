"""Options of the zstd codec in a config file."""

from __future__ import annotations

import enum

import attrs


class Level(enum.Enum):
    """The effort of compression; see the README for speeds."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@attrs.frozen(kw_only=True)
class ZstdConfig:
    """``{ level = "low" }``."""

    level: Level = Level.LOW
