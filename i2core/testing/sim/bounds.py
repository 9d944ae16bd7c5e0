"""Checks that memory stays bounded: a dirty set with a limit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from i2core.api import Change, Lost
from i2core.rule.live.dirty import DirtySet
from i2core.testing.sim.machine import Violation
from i2core.testing.sim.scale import LIMITS

_MOST = 3 * cast("int", LIMITS["COALESCE_AT"])
"""Coalescing leaves about half of the limit; moves are never coalesced."""


class BoundedDirtySet(DirtySet):
    """The real dirty set; a violation when it has more places than its limit allows."""

    def add(self, changes: Iterable[Change | Lost]) -> None:
        super().add(changes)
        if len(self) > _MOST:
            raise Violation(f"the dirty set holds {len(self)} places")
