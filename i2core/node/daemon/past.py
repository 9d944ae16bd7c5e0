"""The past of one received rule, as the control API asks about it."""

from __future__ import annotations

import datetime
import os

import attrs

from i2core.api import Place
from i2core.history.ask.where import place_of
from i2core.history.record.history import History


@attrs.frozen(kw_only=True)
class ReceivedPast:
    """An open history, and what people call its parts."""

    peer: str
    rule: str
    targets: tuple[bytes, ...]
    """The directories of the replica, by root."""
    sources: tuple[bytes, ...]
    """Those on the work node; empty: not known."""
    zone: datetime.tzinfo
    """The work node's time zone."""
    history: History

    def place(self, path: str) -> Place:
        """The place that a path means, as it is written on either node.

        Raises:
            UsageError: it is in no directory of the rule.
        """
        return place_of(os.fsencode(path), self.targets, self.sources)

    def named(self, root: int) -> bytes:
        """The directory of a root, as people know it."""
        return self.sources[root] if self.sources else self.targets[root]
