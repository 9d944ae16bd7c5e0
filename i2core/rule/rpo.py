"""The recovery point of a rule: up to which moment the replica holds everything, and whether that is recent enough.

The recovery point objective (RPO) says how much of the latest work may be lost at most. A rule that replicates, or
waits for its link, knows what it owes: its recovery point is as old as the oldest change that is not durable, and now
when there is none. A rule that is stopped catches nothing, and one that lists or mirrors has a replica of which
nobody knows what it lacks: both protect nothing, so their recovery point stays where it was when they last replicated.
"""

from __future__ import annotations

import attrs

from i2core.api import Code
from i2core.rule.status import RuleStatus, State

HOLDS_AT = 0.5
"""A broken objective holds again when the recovery point is no older than this part of it: a lag that swings around the
limit is told once."""


def is_broken(was_broken: bool, age_s: float, rpo_s: float) -> bool:
    """Whether an objective of `rpo_s` seconds counts as broken with a recovery point that is `age_s` seconds old."""
    return age_s > rpo_s * (HOLDS_AT if was_broken else 1.0)


@attrs.define
class RecoveryPoint:
    """Follows one rule over its runs. Before it first replicates, its recovery point is when it became known."""

    since_ns: int
    """`time.monotonic_ns`: all that changed before is durable on the replica."""
    rpo_s: float | None = None
    """The objective; None: the rule has none. May be set while the rule runs."""
    broken: bool = False
    _follows: bool = attrs.field(default=False, init=False)

    def age_s(self, status: RuleStatus, now_ns: int) -> float:
        """How old the recovery point is, for a rule with this status."""
        if status.state is State.REPLICATING:
            self._follows = True
        elif status.state not in (State.ABNORMAL, State.INVALID):
            self._follows = False
        if self._follows:
            self.since_ns = now_ns if status.oldest_pending_ns is None else status.oldest_pending_ns
        return max(0.0, (now_ns - self.since_ns) / 1e9)

    def judge(self, status: RuleStatus, now_ns: int) -> Code | None:
        """What is to be told now: `RPO_BROKEN`, `RPO_HOLDS`, or None when nothing changed."""
        before, age_s = self.broken, self.age_s(status, now_ns)
        self.broken = self.rpo_s is not None and is_broken(before, age_s, self.rpo_s)
        if self.broken is before:
            return None
        return Code.RPO_BROKEN if self.broken else Code.RPO_HOLDS
