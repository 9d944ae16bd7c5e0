"""Fills the dirty set with the reports of the capture, and with a periodic scan if the rule has one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio

from i2core.api import Capture, Place
from i2core.rule.live.dirty import DirtySet
from i2core.rule.source.source import Source
from i2core.rule.work.loss_log import LossLog


class Catching:
    """Catches changes as long as the rule runs, whether the link is up or down."""

    def __init__(self, source: Source, dirty: DirtySet, *, compares: bool) -> None:
        """`compares`: changes from before the capture is open are found by comparing the source with the catalog."""
        self._source = source
        self._dirty = dirty
        self._compares = compares
        self._capture: Capture | None = None
        self._watching = trio.Event()

    async def watching(self) -> None:
        """Returns when every change from now on is caught."""
        await self._watching.wait()

    async def watching_soon(self, most_s: float) -> None:
        """As `watching`, but returns after `most_s` seconds at the latest. If the capture is not open by then, the
        caller lists a tree whose changes are not caught, so the capture will begin with a compare."""
        with trio.move_on_after(most_s):
            await self._watching.wait()
        self._compares = True

    def unread(self) -> bool:
        """True when the system has reported something that the capture has not read yet."""
        return self._capture is not None and self._capture.unread()

    async def catch(self, opening: AbstractAsyncContextManager[Capture]) -> None:
        """Fills the dirty set until cancelled."""
        losses = LossLog(self._source)
        async with opening as capture:
            if self._compares:
                # The capture is open only now: setting a watch on each of very many directories takes time. Changes
                # since the mirror listed the tree, or since the last run, are found by comparing with the catalog.
                self._look_at_all()
            self._capture = capture
            self._watching.set()
            async for changes in capture.changes():
                self._dirty.add(changes)
                losses.log(changes)

    async def rescan(self, every_s: float) -> None:
        """Looks periodically for changes that raise no event; `every_s` 0: never."""
        while every_s > 0:
            await trio.sleep(every_s)
            self._look_at_all()

    def _look_at_all(self) -> None:
        self._dirty.add_places([Place(root, b"") for root in range(len(self._source.trees))], tree=True)
