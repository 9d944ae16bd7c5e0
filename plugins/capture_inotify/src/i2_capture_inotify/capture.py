"""The inotify capture: reads the kernel's queue, has it translated, and mends what inotify leaves open.

One loop does everything, a bounded piece at a time, so that nothing ever races with the table of watches:
finish the walk of a new directory, do what a timer calls for, go on with a walk in the background, or wait for events.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from i2_capture_inotify.config import InotifyConfig
from i2_capture_inotify.kernel import READ_BYTES, Inotify, limit
from i2_capture_inotify.mounts import REMOTE, Mount, beneath, read_mounts
from i2_capture_inotify.probe import instance_refused, watches_refused
from i2_capture_inotify.translate import Translator
from i2_capture_inotify.walk import LIMIT_MET, Spot, Walk, Walker, count_directories
from i2_capture_inotify.watches import WatchTable
from i2core.api import Capture, CaptureContext, Change, Code, Lost, Op, Place, StopRule

PAIR_WAIT_S = 0.02
"""How long the second half of a rename may take. The kernel queues both in one go; only losing the CPU between them,
or the end of a read, separates them."""

CHECK_S = 5.0
"""Between two looks at roots and mounts: no event tells of a renamed parent of a root, nor of a mount."""

OVERFLOW_PAUSE_S = 10.0
"""Least time between two reports of an overflow, so that comparing cannot make the next one follow at once."""

WALK_STEP = 512
"""Directories visited in one go: about 10 ms in which events wait."""

ROUND_BYTES = 4 * READ_BYTES
"""Most events that one batch is made from."""

WAITING_BYTES = 64 * 1024 * 1024
"""Most events that are kept in memory while a large new tree is walked; then the kernel's queue fills."""

MISSED_TRIES = 5
"""How often directories whose path led nowhere are looked for, when no event is left that could mend the path."""

MANY_UNWATCHED = 64
"""More unwatched trees than this in one root, and the whole root is compared instead of each."""


class InotifyCapture(Capture):
    """Watches every directory beneath the roots; see `open_capture`.

    Beyond the contract: events are reported in the kernel's order; neighbours that say the same are one.
    """

    def __init__(self, config: InotifyConfig, context: CaptureContext, inotify: Inotify) -> None:
        self._config = config
        self._context = context
        self._inotify = inotify
        self._table = WatchTable(len(context.roots))
        self._walker = Walker(inotify, self._table, context)
        self._translator = Translator(self._table, self._walker, context.wants_dir)
        self._mounts = self._mounts_beneath()
        self._raw: list[bytes] = []
        self._raw_bytes = 0
        self._rest = b""
        self._settled = 0
        self._pair_at = -math.inf
        self._rewalk: Walk | None = None
        self._check_at = trio.current_time() + CHECK_S
        self._overflow_at = math.inf
        self._overflow_told_at = -math.inf
        self._unwatched_at = math.inf
        self._missed_tries = 0
        self._said: set[str] = set()

    async def set_up(self) -> None:
        """Places all watches.

        Raises:
            StopRule: a root is missing.
        """
        walk = Walk(*(Spot(None, b"", root) for root in range(len(self._context.roots))))
        while walk.todo:
            await self._step(walk)
            self._read(WAITING_BYTES)
        for root, path in enumerate(self._context.roots):
            if self._table.roots[root] is None and Place(root, b"") not in self._walker.unwatched:
                raise StopRule("there is no such directory", code=Code.SOURCE_GONE, obj=os.fsdecode(path))

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Batches of what one round of reading brought."""
        translator = self._translator
        while True:
            await self._advance()
            if translator.out:
                batch, translator.out = translator.out, []
                yield batch

    async def _advance(self) -> None:
        """One piece of work. Cancelled, it leaves everything in its place for the next call."""
        translator = self._translator
        if translator.entering is not None:
            walk = translator.entering.walk
            await self._step(walk)
            self._read(WAITING_BYTES)
            if not walk.todo:
                translator.entered()
            return
        if translator.doubtful:
            self._look_again(translator.doubtful.pop())
            return
        await self._do_what_is_due(trio.current_time())
        if translator.out or translator.doubtful:
            return
        if self._rewalk is not None:
            await self._go_on_with_rewalk(self._rewalk)
        elif not self._rest or translator.unsettled:
            if not self._rest and not self._read(ROUND_BYTES) and await self._tidy():
                return
            if not self._raw:
                await self._wait()
        self._read(ROUND_BYTES)
        self._translate()

    # ---------------------------------------------------------------------------------------- reading

    async def _wait(self) -> None:
        until = min(self._check_at, self._overflow_at, self._unwatched_at)
        if self._translator.unsettled:
            until = min(until, self._pair_at)
        with trio.move_on_at(until):
            await trio.lowlevel.wait_readable(self._inotify.fd)

    def _read(self, most: int) -> bool:
        """Takes events from the kernel until `most` bytes wait here; False when none wait."""
        while self._raw_bytes < most:
            part = self._inotify.read()
            if not part:
                break
            self._raw.append(part)
            self._raw_bytes += len(part)
            if len(part) < READ_BYTES // 2:
                break
        return bool(self._raw)

    def _translate(self) -> None:
        raw = self._rest + b"".join(self._raw)
        self._raw.clear()
        self._raw_bytes = 0
        if not raw:
            return
        self._missed_tries = 0
        translator = self._translator
        now = trio.current_time()
        same_half = translator.unsettled
        rest = translator.translate(raw, self._settled if now >= self._pair_at else 0)
        if translator.unsettled and not (same_half and len(rest) == len(raw)):
            self._pair_at = now + PAIR_WAIT_S
            self._settled = len(rest)
        self._rest = rest
        if translator.overflowed:
            translator.overflowed = False
            self._overflow_at = max(now, self._overflow_told_at + OVERFLOW_PAUSE_S)

    # ---------------------------------------------------------------------------------------- walking

    async def _step(self, walk: Walk) -> None:
        await trio.to_thread.run_sync(self._walker.step, walk, WALK_STEP)

    async def _go_on_with_rewalk(self, walk: Walk) -> None:
        await self._step(walk)
        for spot in walk.surprises:
            self._translator.doubtful.append(spot)
            if spot.parent is not None:
                walk.todo.appendleft(spot)  # once it has its watches, what is known beneath it is to be looked at too
        walk.surprises = []
        if not walk.todo:
            self._rewalk = None

    async def _tidy(self) -> bool:
        """No event waits: what could not be placed until now is looked for, or given up. True when there was any."""
        if self._table.missed:
            await self._look_for_missed()
            return True
        if self._table.displaced:
            await trio.to_thread.run_sync(self._drop_displaced)
            return True
        return False

    async def _look_for_missed(self) -> None:
        """Directories came where the path was not known at that time; by now it should be."""
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
        """A directory may be new, replaced, or watchable by now: it gets its watches and is reported."""
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
        """No event is left that could give these trees a place: they are outside, and not watched any more."""
        for top in list(self._table.displaced.values()):
            for node in list(self._table.beneath(top)):
                self._inotify.unwatch(node.wd)
                self._table.by_wd.pop(node.wd, None)
                self._table.missed.discard(node)
        self._table.displaced.clear()

    # ---------------------------------------------------------------------------------------- timers

    async def _do_what_is_due(self, now: float) -> None:
        if now >= self._overflow_at:
            self._tell_overflow(now)
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            self._check_roots()
            self._check_mounts()
        if self._walker.unwatched or any(m.fstype in REMOTE for m in self._mounts.values()):
            if self._unwatched_at == math.inf:
                self._unwatched_at = now
            if now >= self._unwatched_at:
                self._unwatched_at = now + self._config.unwatched_interval
                await self._tell_unwatched()
        elif self._unwatched_at < math.inf:
            self._unwatched_at = math.inf
            self._said.clear()

    def _tell_overflow(self, now: float) -> None:
        self._overflow_at, self._overflow_told_at = math.inf, now
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

    def _mounts_beneath(self) -> dict[Place, Mount]:
        mounts = read_mounts()
        return {
            Place(root, path): mount
            for root, top in enumerate(self._context.roots)
            for path, mount in beneath(top, mounts).items()
        }

    def _check_mounts(self) -> None:
        before, self._mounts = self._mounts, self._mounts_beneath()
        for place in before.keys() | self._mounts.keys():
            if before.get(place) != self._mounts.get(place):
                above, _, name = place.path.rpartition(b"/")
                parent = self._table.at(place.root, above)
                if parent is not None:
                    self._translator.doubtful.append(Spot(parent, name, place.root))

    async def _tell_unwatched(self) -> None:
        """Trees without a watch are compared at an interval instead, and tried again."""
        unwatched = dict(self._walker.unwatched)
        for place, mount in self._mounts.items():
            if mount.fstype in REMOTE:
                unwatched[place] = f"changes by other hosts make no events on {os.fsdecode(mount.fstype)}"
        for reason in set(unwatched.values()) - self._said:
            self._said.add(reason)
            await self._say_unwatched(reason, [place for place in unwatched if unwatched[place] == reason])
        for root in range(len(self._context.roots)):
            places = [place for place in unwatched if place.root == root]
            if len(places) > MANY_UNWATCHED:
                self._translator.out.append(Lost(Place(root, b""), f"{len(places)} directories are not watched"))
            else:
                self._translator.out += (Lost(place, f"not watched: {unwatched[place]}") for place in places)
        if self._rewalk is None:
            self._rewalk = Walk(*self._spots(self._walker.unwatched), distrust=True, announce=True)

    def _spots(self, places: Sequence[Place] | dict[Place, str]) -> list[Spot]:
        spots = []
        for root, path in places:
            above, _, name = path.rpartition(b"/")
            parent = self._table.at(root, above) if path else None
            if parent is not None or not path:
                spots.append(Spot(parent, name, root))
        return spots

    async def _say_unwatched(self, reason: str, places: list[Place]) -> None:
        first = os.path.join(self._context.roots[places[0].root], places[0].path)
        line = f"{len(places)} directories are not watched ({os.fsdecode(first)!r} first): {reason}"
        if reason == LIMIT_MET:
            needed = await trio.to_thread.run_sync(count_directories, self._context)
            line = watches_refused(needed, limit("max_user_watches"), exact=True)
        self._context.say(f"{line}; they are compared every {self._config.unwatched_interval:g} s instead")


@asynccontextmanager
async def open_capture(config: InotifyConfig, context: CaptureContext) -> AsyncIterator[InotifyCapture]:
    """A capture with all its watches in place.

    Raises:
        StopRule: a root is missing, or the system gives no inotify instance.
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
