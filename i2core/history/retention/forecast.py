"""When the disk of the history will be full, and when to say so: once, and again when it has become worse."""

from __future__ import annotations

from collections import deque

import attrs

from i2core.history.retention.objective import Used, full_in_s

SAID_BELOW_S = 24 * 3600
"""A disk that is full within so many seconds is reported."""
_KEPT_NS = 25 * 3600 * 10**9
_STEP_NS = 60 * 10**9
"""Samples closer together than this replace each other."""


@attrs.define
class Forecast:
    """The journal's growth, by samples of the last day."""

    samples: deque[Used] = attrs.field(factory=deque)
    free_bytes: int = 0
    said_s: float | None = None
    """What was reported last; None: nothing, or it is well again."""

    def add(self, sample: Used, free_bytes: int) -> None:
        """What is used and free by now."""
        if len(self.samples) > 1 and sample.time_ns - self.samples[-2].time_ns < _STEP_NS:
            self.samples.pop()
        self.samples.append(sample)
        self.free_bytes = free_bytes
        while sample.time_ns - self.samples[0].time_ns > _KEPT_NS:
            self.samples.popleft()

    @property
    def full_in_s(self) -> float | None:
        """In how many seconds the disk is full; None: it does not fill up, or nothing is known yet."""
        return full_in_s(self.samples, self.free_bytes)

    def to_say(self) -> float | None:
        """Seconds that are to be reported now; None: nothing has become so much worse. Reported is what is below
        `SAID_BELOW_S`, and then each time the rest has halved; it is well again above twice the limit."""
        left_s = self.full_in_s
        if left_s is None or left_s > 2 * SAID_BELOW_S:
            self.said_s = None
        elif left_s <= (SAID_BELOW_S if self.said_s is None else self.said_s / 2):
            self.said_s = left_s
            return left_s
        return None
