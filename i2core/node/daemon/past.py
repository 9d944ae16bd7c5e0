"""One received rule, and its past, as the control API asks about them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import attrs

from i2core.api import Place, UsageError
from i2core.config.words import bilingual
from i2core.history.ask.where import place_of
from i2core.history.record.history import History
from i2core.history.retention.pins import MomentGone


@attrs.frozen(kw_only=True)
class ReceivedRule:
    """A received rule, and what people call its parts."""

    peer: str
    rule: str
    targets: tuple[bytes, ...]
    """The directories of the replica, by root."""
    sources: tuple[bytes, ...]
    """Those on the work node; empty: not known."""
    zone: datetime.tzinfo
    """The work node's time zone."""

    def place(self, path: str) -> Place:
        """The place that a path means, as it is written on either node.

        Raises:
            UsageError: it is in no directory of the rule.
        """
        return place_of(os.fsencode(path), self.targets, self.sources)

    def named(self, root: int) -> bytes:
        """The directory of a root, as people know it."""
        return self.sources[root] if self.sources else self.targets[root]


@attrs.frozen(kw_only=True)
class ReceivedPast(ReceivedRule):
    """With its history, open."""

    history: History

    @contextmanager
    def pinned(self, *moments: int) -> Iterator[None]:
        """Within the body these moments stay readable. To be used in the event loop.

        Raises:
            UsageError: one was given up since it was chosen.
        """
        with ExitStack() as pins:
            try:
                for seq in moments:
                    pins.enter_context(self.history.pins.pin(seq))
            except MomentGone as error:
                raise UsageError(
                    bilingual("the moment was given up just now", "该时刻刚刚被清除"),
                    obj=str(error.seq),
                    next_step=bilingual("i2 cdp range tells which ones are there", "可用 i2 cdp range 查看可用的时刻"),
                ) from error
            yield
