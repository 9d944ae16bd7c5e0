"""The values that a recovery reports: how far it is, and how it ended."""

from __future__ import annotations

import enum
from typing import Any, NamedTuple

import attrs

from i2core.rule.life.status import Skipped

FAILED_KEPT = 1000
"""Failed paths that are kept by name; the others are only counted."""


class Phase(enum.Enum):
    """What a recovery is doing."""

    WAITING = "waiting"
    PLANNING = "planning"
    RECOVERING = "recovering"
    AGAIN = "again"
    """What could not be read or written is tried once more."""
    PROVING = "proving"
    """All is compared once more, with its contents."""
    DONE = "done"


class Progress(NamedTuple):
    """How far the present phase is. Files are names other than directories; bytes are their sizes."""

    phase: Phase
    files: int
    bytes: int
    """Found equal, or made equal."""
    all_files: int
    all_bytes: int
    """Listed so far; all of them once `all_known`."""
    all_known: bool
    sent_files: int
    sent_bytes: int
    """What crossed: in this recovery, all phases together."""
    seconds: float
    """Since this phase began."""

    @property
    def rate(self) -> float:
        """Bytes a second in this phase."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def percent(self) -> int:
        """0 to 100 of this phase, by bytes where there are any."""
        if self.phase is Phase.DONE:
            return 100
        done, whole = (self.bytes, self.all_bytes) if self.all_bytes else (self.files, self.all_files)
        return min(99, done * 100 // whole) if whole else 0

    @property
    def left_s(self) -> float | None:
        """Seconds until this phase ends, at the speed that it had; None: not known yet."""
        done, whole = (self.bytes, self.all_bytes) if self.all_bytes else (self.files, self.all_files)
        if not self.all_known or not done:
            return None
        return self.seconds * (whole - done) / done

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        fields = self._asdict() | {"phase": self.phase.value, "percent": self.percent, "rate": round(self.rate)}
        left_s = self.left_s
        return fields | {"seconds": round(self.seconds, 3), "left_s": None if left_s is None else round(left_s, 1)}


@attrs.frozen(kw_only=True)
class Outcome:
    """How a recovery ended that came to its end."""

    to: str
    """For people, as all paths here: bytes that are no text are escaped."""
    files: int
    """Names other than directories that the recovered state has."""
    bytes: int
    sent_files: int
    sent_bytes: int
    """What had to be created or changed."""
    extra: int
    """Names that only the destination had, each the topmost: kept, moved aside or deleted."""
    aside: str | None
    """Where extra files were moved; None: there were none."""
    failed: list[Skipped]
    """What could not be recovered, and why. Up to `FAILED_KEPT`."""
    failed_count: int
    proved: bool | None
    """All was compared with its contents afterwards, and nothing differed; None: that was not asked for."""
    seconds: float

    @property
    def equal(self) -> bool:
        """True when the destination has the recovered state, as far as is known."""
        return not self.failed_count and self.proved is not False

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        failed = {"failed": [attrs.asdict(each) for each in self.failed]}
        return attrs.asdict(self) | failed | {"equal": self.equal, "seconds": round(self.seconds, 3)}
