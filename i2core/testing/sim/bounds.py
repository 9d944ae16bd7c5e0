"""Memory stays bounded: what holds the work node's knowledge of changes, and how much of it there may be."""

from __future__ import annotations

from collections.abc import Iterable

from i2core.api import Change, Lost
from i2core.rule.live.dirty import DirtySet
from i2core.testing.sim.machine import Violation
from i2core.testing.sim.scale import LIMITS

_MOST = 3 * int(LIMITS["FOLD_AT"])
"""Folding leaves about half of the limit; moves are never folded."""


class BoundedDirtySet(DirtySet):
    """The real one, held to its limit."""

    def add(self, changes: Iterable[Change | Lost]) -> None:
        super().add(changes)
        if len(self) > _MOST:
            raise Violation(f"the dirty set holds {len(self)} places")
