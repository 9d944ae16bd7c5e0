"""Notices jumps of the wall clock. Replication does not depend on it: liveness, limits and lags use the monotonic
clock. But an administrator who compares the logs of two nodes should know about a jump."""

from __future__ import annotations

import attrs

JUMP_S = 1.0
"""Smaller steps are corrections by the time service."""


@attrs.define
class ClockWatch:
    """Compares the advance of two clocks between two readings."""

    wall_s: float
    """The wall clock at the last reading, in seconds since 1970."""
    steady_s: float
    """The monotonic clock at the last reading."""

    def look(self, wall_s: float, steady_s: float) -> float | None:
        """The seconds by which the wall clock jumped since the last reading, negative for back; None if it did not."""
        jump = (wall_s - self.wall_s) - (steady_s - self.steady_s)
        self.wall_s, self.steady_s = wall_s, steady_s
        return jump if abs(jump) >= JUMP_S else None
