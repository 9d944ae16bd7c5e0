"""The recovery point of a rule: up to which moment the replica holds everything, and whether that is recent enough.

The recovery point objective (RPO) is how old the recovery point may become.

A rule that replicates, or waits for its link, knows which changes are not durable yet. Its recovery point is the time
of the oldest of them, or now if there is none. A stopped rule catches no changes, and while a rule lists or mirrors
nobody knows what the replica lacks. In these states the recovery point stays where it was when the rule last
replicated.
"""

from __future__ import annotations

import attrs

from i2core.api import Code
from i2core.rule.life.status import RuleStatus, State

HOLDS_AT = 0.5
"""A broken objective holds again when the recovery point is no older than this fraction of it. Without the difference,
a lag that hovers around the limit would raise repeated alarms."""


def is_broken(was_broken: bool, age_s: float, rpo_s: float) -> bool:
    """Whether an objective of `rpo_s` seconds counts as broken with a recovery point that is `age_s` seconds old."""
    return age_s > rpo_s * (HOLDS_AT if was_broken else 1.0)


@attrs.define
class RecoveryPoint:
    """The recovery point of one rule over all of its runs. Until the rule first replicates, it is the time at which the
    node read the rule's config."""

    since_ns: int
    """`time.monotonic_ns`: all changes before this time are durable on the replica."""
    rpo_s: float | None = None
    """The objective; None: the rule has none. May be set while the rule runs."""
    broken: bool = False
    _follows: bool = attrs.field(default=False, init=False)

    def age_s(self, status: RuleStatus, now_ns: int) -> float:
        """How old the recovery point is, for a rule with this status."""
        status.look()
        if status.state is State.REPLICATING:
            self._follows = True
        elif status.state not in (State.ABNORMAL, State.INVALID):
            self._follows = False
        if self._follows:
            self.since_ns = now_ns if status.oldest_pending_ns is None else status.oldest_pending_ns
        return max(0.0, (now_ns - self.since_ns) / 1e9)

    def judge(self, status: RuleStatus, now_ns: int) -> Code | None:
        """The code to report now: `RPO_BROKEN`, `RPO_HOLDS`, or None when nothing changed."""
        before, age_s = self.broken, self.age_s(status, now_ns)
        self.broken = self.rpo_s is not None and is_broken(before, age_s, self.rpo_s)
        if self.broken is before:
            return None
        return Code.RPO_BROKEN if self.broken else Code.RPO_HOLDS
