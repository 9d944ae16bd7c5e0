"""Notices when somebody sets the wall clock. Nothing here depends on it: liveness, limits and lags go by the monotonic
clock. But an administrator who compares logs of two nodes should know."""

from __future__ import annotations

import attrs

JUMP_S = 1.0
"""Smaller steps are the time service at work."""


@attrs.define
class ClockWatch:
    """Compares how far two clocks went between two looks."""

    wall_s: float
    """The wall clock at the last look, in seconds since 1970."""
    steady_s: float
    """A clock that nobody sets, at the last look."""

    def look(self, wall_s: float, steady_s: float) -> float | None:
        """By how many seconds the wall clock jumped since the last look, negative: back; None when it did not."""
        jump = (wall_s - self.wall_s) - (steady_s - self.steady_s)
        self.wall_s, self.steady_s = wall_s, steady_s
        return jump if abs(jump) >= JUMP_S else None
