"""The objects that an accident may use."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from i2core.testing.sim.lives import Lives
from i2core.testing.sim.plan import Step
from i2core.testing.sim.witness import Witness
from i2core.testing.sim.world import World


@attrs.frozen
class Scene:
    """A world, with the objects that watch it."""

    world: World
    witness: Witness
    lives: Lives
    nursery: trio.Nursery

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Calls `what` after so many seconds."""
        self.nursery.start_soon(_later, seconds, what)


Befall = Callable[[Scene, Step], int]
"""Carries out an accident now; returns how many operations applications do immediately after it."""


async def _later(seconds: float, what: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    what()
