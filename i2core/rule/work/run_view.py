"""The run of a rule, as somebody sees it who compares the rule meanwhile: how far it is, and where to report what
differs. It is for the trio thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from i2core.api import Place
from i2core.rule.life.life import Life
from i2core.rule.live.replication import LiveReplication

POLL_S = 0.1
"""How often it is looked whether a run is so far."""


class RunView:
    """Outlives the runs: while there is none, nothing is on its way."""

    def __init__(self) -> None:
        self._live: LiveReplication | None = None
        self._life: Life | None = None

    @contextmanager
    def of(self, live: LiveReplication, life: Life) -> Iterator[None]:
        """During the body, this run is the one that is seen."""
        self._live, self._life = live, life
        try:
            yield
        finally:
            self._live = self._life = None

    @property
    def runs(self) -> bool:
        """There is a run."""
        return self._live is not None

    @property
    def mirrors(self) -> bool:
        """There is a run, and its mirror is not done."""
        return self._life is not None and not self._life.phase.mirrored

    @property
    def replicates(self) -> bool:
        """There is a run, and its mirror is done."""
        return self._live is not None and not self.mirrors

    def carried(self, until_ns: int) -> bool:
        """True when every change that was reported before (`time.monotonic_ns`) is durable on the replica, except of
        names that are known to differ."""
        return self._live is None or self._live.backlog.carried(until_ns)

    async def until_carried(self, until_ns: int, most_s: float) -> bool:
        """Waits until `carried`, at most so long; False: it is not."""
        with trio.move_on_after(most_s):
            await _until(lambda: self.carried(until_ns))
        return self.carried(until_ns)

    async def until_mirrored(self) -> None:
        """Waits until there is no run whose mirror is not done."""
        await _until(lambda: not self.mirrors)

    async def until_repaired(self) -> None:
        """Waits until nothing is being repaired: what still differs is tried again later."""
        await _until(lambda: self._live is None or self._live.backlog.unverified.rests)

    def differ(self, places: Sequence[Place]) -> bool:
        """Has these places compared and repaired by the run. A name that neither the source nor the run knows is
        removed from the replica. False: there is no run that could."""
        if self._live is None or not self.replicates:
            return False
        self._live.differ(places)
        return True


async def _until(ready: Callable[[], bool]) -> None:
    while True:
        if ready():
            return
        await trio.sleep(POLL_S)
