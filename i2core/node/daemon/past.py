"""The past of one received rule, as the control API asks about it."""

from __future__ import annotations

import attrs

from i2core.history.record.history import History


@attrs.frozen(kw_only=True)
class ReceivedPast:
    """An open history, and what people call its parts."""

    peer: str
    rule: str
    targets: tuple[bytes, ...]
    """The directories of the replica, by root."""
    zone: str
    """The work node's time zone."""
    history: History
