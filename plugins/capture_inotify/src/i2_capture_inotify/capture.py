"""The inotify capture: one loop over the kernel's events (`events`, `translate`), the walks that place watches
(`walk`), and the changes that inotify does not report (`unwatched`, and the checks of the roots here).

The loop does everything in bounded steps, so that nothing can race with the table of watches: it finishes the walk of a
new directory, runs what a timer triggers, continues a walk in the background, or waits for events.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from i2_capture_inotify.config import InotifyConfig
from i2_capture_inotify.events import EventBuffer
from i2_capture_inotify.kernel import READ_BYTES, Inotify, limit
from i2_capture_inotify.probe import instance_refused
from i2_capture_inotify.translate import Translator
from i2_capture_inotify.unwatched import UnwatchedTrees
from i2_capture_inotify.walk import Spot, Walk, Walker
from i2_capture_inotify.watches import WatchTable
from i2core.api import Capture, CaptureContext, Change, Code, Lost, Op, Place, StopRule

CHECK_S = 5.0
"""Interval of the checks of roots and mounts: a renamed parent of a root, or a new mount, makes no event."""

OVERFLOW_PAUSE_S = 10.0
"""Least time between two reports of an overflow, so that the load of comparing does not cause the next overflow at
once."""

WALK_STEP = 512
"""Directories visited in one step: about 10 ms, during which events wait."""

ROUND_BYTES = 4 * READ_BYTES
"""Most bytes of events that are translated into one batch."""

WAITING_BYTES = 64 * 1024 * 1024
"""Most bytes of events in memory while a large new tree is walked; above it, they stay in the kernel's queue."""

MISSED_TRIES = 5
"""How often directories whose path did not exist are searched again, when no event is left that could correct the
path."""


class InotifyCapture(Capture):
    """Watches every directory beneath the roots; see `open_capture`.

    Beyond the contract: events are reported in the kernel's order; equal neighbours are merged.
    """

    def __init__(self, config: InotifyConfig, context: CaptureContext, inotify: Inotify) -> None:
        self._context = context
        self._inotify = inotify
        self._table = WatchTable(len(context.roots))
        self._walker = Walker(inotify, self._table, context)
        self._translator = Translator(self._table, self._walker, context.wants_dir)
        self._events = EventBuffer(inotify, self._translator)
        self._unwatched = UnwatchedTrees(config, context, self._table, self._walker)
        self._rewalk: Walk | None = None
        self._check_at = trio.current_time() + CHECK_S
        self._overflow_at = math.inf
        self._overflow_reported_at = -math.inf
        self._missed_tries = 0

    async def set_up(self) -> None:
        """Places all watches.

        Raises:
            StopRule: a root is missing.
        """
        walk = Walk(*(Spot(None, b"", root) for root in range(len(self._context.roots))))
        while walk.todo:
            await self._step(walk)
            self._events.read(WAITING_BYTES)
        for root, path in enumerate(self._context.roots):
            if self._table.roots[root] is None and Place(root, b"") not in self._walker.unwatched:
                raise StopRule("there is no such directory", code=Code.SOURCE_GONE, obj=os.fsdecode(path))

    def unread(self) -> bool:
        translator = self._translator
        held = translator.out or translator.doubtful or translator.entering
        return bool(held) or self._overflow_at < math.inf or self._events.has_any

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Batches, each from one round of reading."""
        translator = self._translator
        while True:
            await self._advance()
            if translator.out:
                batch, translator.out = translator.out, []
                yield batch

    async def _advance(self) -> None:
        """Does one step of work. Cancellation: the next call continues."""
        translator, events = self._translator, self._events
        if translator.entering is not None:
            walk = translator.entering.walk
            await self._step(walk)
            self._events.read(WAITING_BYTES)
            if not walk.todo:
                translator.entered()
            return
        if translator.doubtful:
            self._look_again(translator.doubtful.pop())
            return
        await self._run_timers(trio.current_time())
        if translator.out or translator.doubtful:
            return
        if self._rewalk is not None:
            await self._go_on_with_rewalk(self._rewalk)
        elif not events.rest or translator.unsettled:
            if not events.rest and not events.read(ROUND_BYTES) and await self._tidy():
                return
            if not events.new:
                await self._wait()
        events.read(ROUND_BYTES)
        self._translate(trio.current_time())

    def _translate(self, now: float) -> None:
        if self._events.translate(now):
            self._missed_tries = 0
        if self._translator.overflowed:
            self._translator.overflowed = False
            self._overflow_at = max(now, self._overflow_reported_at + OVERFLOW_PAUSE_S)

    async def _wait(self) -> None:
        until = min(self._check_at, self._overflow_at, self._unwatched.report_at)
        if self._translator.unsettled:
            until = min(until, self._events.pair_at)
        with trio.move_on_at(until):
            await trio.lowlevel.wait_readable(self._inotify.fd)

    # ---------------------------------------------------------------------------------------- walking

    async def _step(self, walk: Walk) -> None:
        await trio.to_thread.run_sync(self._walker.step, walk, WALK_STEP)

    async def _go_on_with_rewalk(self, walk: Walk) -> None:
        await self._step(walk)
        for spot in walk.surprises:
            self._translator.doubtful.append(spot)
            if spot.parent is not None:
                walk.todo.appendleft(spot)  # after it has its watches, known directories beneath it must be visited too
        walk.surprises = []
        if not walk.todo:
            self._rewalk = None

    async def _tidy(self) -> bool:
        """Called when no event waits: searches the directories whose place is not known, or drops them. True if there
        were any."""
        if self._table.missed:
            await self._look_for_missed()
            return True
        if self._table.displaced:
            await trio.to_thread.run_sync(self._drop_displaced)
            return True
        return False

    async def _look_for_missed(self) -> None:
        """Lists the directories in which others appeared while their path was not known; by now it should be known."""
        nodes = [node for node in self._table.missed if self._table.prefix(node) is not None]
        if self._missed_tries == MISSED_TRIES:
            for node in nodes:
                place = Place(node.root, (self._table.prefix(node) or b"")[:-1])
                self._walker.unwatched[place] = "its path cannot be followed"
            self._table.missed.clear()
            return
        self._missed_tries += 1
        walk = Walk(*(Spot(node.parent, node.name, node.root) for node in nodes), announce=True)
        while walk.todo:
            await self._step(walk)
        self._translator.doubtful += walk.surprises

    def _look_again(self, spot: Spot) -> None:
        """Places the watches of a directory that may be new, replaced, or watchable now, and reports it."""
        if spot.parent is None:
            place, known = Place(spot.root, b""), self._table.roots[spot.root]
            report: Change | Lost = Lost(place, "the source directory was replaced")
        else:
            prefix = self._table.prefix(spot.parent)
            if prefix is None:
                return
            place, known = Place(spot.parent.root, prefix + spot.name), None
            report = Change(Op.CREATE, place, is_dir=True)
        if known is not None:
            self._table.displace(known)
        if self._context.wants_dir(*place):
            self._translator.enter(Walk(spot), report)

    def _drop_displaced(self) -> None:
        """Drops the trees without a place: no event is left that could give them one, so they were moved out of the
        roots."""
        for top in list(self._table.displaced.values()):
            for node in list(self._table.beneath(top)):
                self._inotify.unwatch(node.wd)
                self._table.by_wd.pop(node.wd, None)
                self._table.missed.discard(node)
        self._table.displaced.clear()

    # ---------------------------------------------------------------------------------------- timers

    async def _run_timers(self, now: float) -> None:
        if now >= self._overflow_at:
            self._report_overflow(now)
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            self._check_roots()
            self._translator.doubtful += self._unwatched.check_mounts()
        lost = await self._unwatched.report(now)
        if lost:
            self._translator.out += lost
            self._rewalk = self._rewalk or self._unwatched.walk()

    def _report_overflow(self, now: float) -> None:
        self._overflow_at, self._overflow_reported_at = math.inf, now
        held = limit("max_queued_events")
        self._context.say(
            f"inotify lost events: more than fs.inotify.max_queued_events = {held} were waiting; "
            "the sources are compared again"
        )
        roots = range(len(self._context.roots))
        self._translator.out += (Lost(Place(root, b""), "the event queue overflowed") for root in roots)
        there = (Spot(None, b"", root) for root in roots if self._table.roots[root] is not None)
        self._rewalk = Walk(*there, distrust=True, announce=True)

    def _check_roots(self) -> None:
        lost = self._translator.lost_roots
        for root, node in enumerate(self._table.roots):
            place = Place(root, b"")
            if node is not None:
                lost.pop(root, None)
                if not self._walker.root_is_there(root):
                    self._table.displace(node)
                    lost[root] = "the source directory is no longer at its path"
                    self._translator.out.append(Lost(place, lost[root]))
            elif root in lost and os.path.isdir(self._context.roots[root]):
                self._translator.doubtful.append(Spot(None, b"", root))


@asynccontextmanager
async def open_capture(config: InotifyConfig, context: CaptureContext) -> AsyncIterator[InotifyCapture]:
    """A capture with all its watches in place.

    Raises:
        StopRule: a root is missing, or no inotify instance is available.
    """
    try:
        inotify = Inotify()
    except OSError as error:
        raise StopRule(instance_refused(error), code=Code.CAPTURE_UNFIT) from error
    try:
        capture = InotifyCapture(config, context, inotify)
        await capture.set_up()
        yield capture
    finally:
        inotify.close()
