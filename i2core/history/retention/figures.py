"""What a history keeps, against what was promised: the figures of status and metrics."""

from __future__ import annotations

from typing import Any

import attrs

from i2core.history.retention.objective import Objective


@attrs.frozen(kw_only=True)
class Figures:
    """Of one history, as it was when it was open last. Times in ns since the epoch: those of single moments by the work
    node's clock, the others by the steady clock of this node."""

    objective: Objective
    oldest_ns: int
    """The oldest moment that can be had."""
    lock_s: float
    """As the config has it now; 0: none."""
    full_in_s: float | None
    """When its disk is full, as it grows now; None: it does not fill up, or nothing is known yet."""
    used_bytes: int | None
    """Room that journal and index take; None: not known yet."""

    def as_json(self) -> dict[str, Any]:
        """For programs; times in seconds."""
        return {
            "objective_met": self.objective.is_met,
            "promised_from": self.objective.promised_from_ns / 1e9,
            "kept_from": self.objective.kept_from_ns / 1e9,
            "missing_days": len(self.objective.missing_days),
            "oldest": self.oldest_ns / 1e9,
            "lock_seconds": self.lock_s,
            "full_in_seconds": None if self.full_in_s is None else round(self.full_in_s),
            "used_bytes": self.used_bytes,
        }
