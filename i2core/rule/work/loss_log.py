"""Logs the losses of a capture: frequent ones show that a queue is too small, or that a watch is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from i2core.api import Change, Code, Lost
from i2core.drivers.scan import SCAN
from i2core.rule.life.report import Line
from i2core.rule.source.source import Source

AGAIN_S = 3600.0
"""A loss of the same place for the same reason is logged only once in this time. Some captures report a place that they
cannot watch every minute."""
MOST = 1000
"""At most so many logged losses are remembered."""


class LossLog:
    """Logs the losses of one rule's capture. `clock` is a monotonic clock in seconds."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}

    def log(self, changes: Iterable[Change | Lost]) -> None:
        """Logs the losses among `changes`. A scan receives no events, so it cannot lose any."""
        if self._source.status.capture == SCAN.name:
            return
        for change in changes:
            if isinstance(change, Lost):
                self._log(self._source.show(change.place), change.reason)

    def _log(self, shown: str, reason: str) -> None:
        now = self._clock()
        if now - self._logged.get((shown, reason), -AGAIN_S) < AGAIN_S:
            return
        if len(self._logged) >= MOST:
            self._logged.clear()
        self._logged[shown, reason] = now
        line = Line(f"{shown}: {reason}; the subtree is compared again", obj=shown, cause=reason)
        self._source.say(self._source.rule, Code.CAPTURE_LOST, line)
