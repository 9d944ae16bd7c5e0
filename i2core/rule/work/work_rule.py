"""The input of a rule's run on the work node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from i2core.api import Entry, Peer, Place
from i2core.config.model import Rule
from i2core.limits.throttle import Throttle
from i2core.rule.outgoing.spool import Quota
from i2core.rule.work.run_view import RunView


@attrs.frozen(kw_only=True)
class WorkRule:
    """A rule with the peer that receives it."""

    rule: Rule
    peer: Peer
    epoch: int = 1
    memory: Quota = attrs.field(factory=lambda: Quota(256_000_000))
    """Bytes of records that are not durable on the replica; rules may share it."""
    disk: Quota = attrs.field(factory=lambda: Quota(4_096_000_000))
    cache_dir: Path | None = None
    """Where records wait on disk; None: they wait only in memory."""
    throttle: Throttle = attrs.field(factory=Throttle)
    """The bandwidth limits; by default there are none."""
    view: RunView = attrs.field(factory=RunView)
    """Sees the run while there is one."""
    holds_back: Callable[[Place, Entry], bool] = lambda place, entry: False
    """As `Source.holds_back`."""
    compare: bool = False
    """Compare everything, whatever an earlier run left."""
    release_step: str = ""
    """The next step for a held delete where no daemon serves the replica, so that nobody can release it: then the run
    ends. Only for a root that is gone the run waits, since the root may come back. Empty: a daemon serves it."""
