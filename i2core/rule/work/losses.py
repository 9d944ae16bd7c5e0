"""What a capture lost is told: who sees it often knows that a queue is too small, or that a watch is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from i2core.api import Change, Code, Lost
from i2core.pipeline.scan import SCAN
from i2core.rule.line import Line
from i2core.rule.reading.source import Source

AGAIN_S = 3600.0
"""The same place for the same reason is told once in that time: some captures look at what they cannot watch by the
minute."""
MOST = 1000
"""Places remembered as told."""


class Losses:
    """Tells the losses of one rule's capture. `clock` gives seconds that never go back."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}

    def tell(self, changes: Iterable[Change | Lost]) -> None:
        """Notes the losses among `changes`. A scan hears of no change: it has none to lose."""
        if self._source.status.capture == SCAN.name:
            return
        for change in changes:
            if isinstance(change, Lost):
                self._tell(self._source.show(change.place), change.reason)

    def _tell(self, shown: str, reason: str) -> None:
        now = self._clock()
        if now - self._told.get((shown, reason), -AGAIN_S) < AGAIN_S:
            return
        if len(self._told) >= MOST:
            self._told.clear()
        self._told[shown, reason] = now
        line = Line(f"{shown}: {reason}; what lies beneath is compared again", obj=shown, cause=reason)
        self._source.say(self._source.rule, Code.CAPTURE_LOST, line)
