"""How the past of one history is to be kept."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from i2core.config.model import CdpRetention, HistoryTerms, WhenHistoryFull
from i2core.history.retention.forecast import Forecast
from i2core.history.retention.policy import Days


@attrs.frozen(kw_only=True)
class Terms:
    """What the config says of one history. May differ from pass to pass."""

    policy: CdpRetention
    """What was asked for, by the rule."""
    own: HistoryTerms = attrs.field(factory=HistoryTerms)
    """What this node decides."""

    @property
    def lock_ns(self) -> int:
        """Nobody gives up a moment before it is so old."""
        return round(self.own.lock_s * 1e9)

    @property
    def shortens(self) -> bool:
        """On a full disk the oldest is given up; else nothing is."""
        return self.own.when_full is WhenHistoryFull.SHORTEN


@attrs.frozen(kw_only=True)
class Keeping:
    """How the past of one history is given up."""

    terms: Callable[[], Terms]
    days: Days
    forecast: Forecast = attrs.field(factory=Forecast)
    """May be that of an earlier runner."""
