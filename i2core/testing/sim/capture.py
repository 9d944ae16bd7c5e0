"""The capture of the simulated kernel: it reports the changes of the work node's disk, as far as a real capture would.

It keeps the contract (`i2core.api.Capture`) and uses all the freedom that this leaves: events are merged, they have old
or new names, changes in a new directory are not reported until the directory itself is, and a full queue is reported as
`Lost`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import trio

from i2core.api import Capture, CaptureContext, Change, DriverKind, DriverSpec, Lost, NoConfig, Op, Place
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.kernel import Kernel

QUEUE = 400
"""At most so many events wait; more are lost."""
_OPS = {"create": Op.CREATE, "modify": Op.MODIFY, "attrib": Op.ATTRIB, "remove": Op.REMOVE}


@attrs.define(eq=False)
class _Event:
    """A change in a directory, and the place of that directory at that time."""

    op: Op
    parent: Inode
    name: bytes
    inode: Inode
    at: Place
    to: Place | None = None
    to_parent: Inode | None = None


class SimCapture(Capture):
    """Watches roots (inodes) of the simulated work disk."""

    def __init__(self, roots: Sequence[Inode], chance: Random) -> None:
        self._roots = {inode: number for number, inode in enumerate(roots)}
        self._chance = chance
        self._late = chance.random() < 0.5
        """True: events have the names at the time when they are read, not when they happened."""
        self._events: deque[_Event] = deque()
        self._unwatched: set[Inode] = set()
        self._woken = trio.Event()
        self._lost = ""

    @property
    def is_idle(self) -> bool:
        """True when all changes have been reported."""
        return not self._events and not self._lost

    # ------------------------------------------------------------------------------------------ what happens

    def _place(self, parent: Inode, name: bytes) -> Place | None:
        """The place of a name in that directory; None outside of the roots."""
        parts = [name]
        here: Inode | None = parent
        while here is not None:
            root = self._roots.get(here)
            if root is not None:
                return Place(root, b"/".join(reversed(parts)))
            above = here.parent
            if above is None or not here.nlink:
                return None
            parts += [known for known, child in above.entries.items() if child is here]
            here = above
        return None

    def happened(self, what: str, parent: Inode, name: bytes, inode: Inode) -> None:
        """Takes an event of the kernel."""
        root = self._roots.get(inode)
        at = Place(root, b"") if root is not None else self._place(parent, name)
        if at is None or self._is_missed(parent):
            return
        op = _OPS[what]
        if op is Op.CREATE and inode.is_dir:
            self._unwatched.add(inode)
        last = self._events[-1] if self._events else None
        if last is not None and (last.op, last.at, last.inode) == (op, at, inode) and op in (Op.MODIFY, Op.ATTRIB):
            return
        self._add(_Event(op, parent, name, inode, at))

    def renamed(self, old_parent: Inode, old: bytes, new_parent: Inode, new: bytes, inode: Inode) -> None:
        """Takes a rename."""
        at, to = self._place(old_parent, old), self._place(new_parent, new)
        if at is not None and self._is_missed(old_parent):
            at = None
        if to is not None and self._is_missed(new_parent):
            to = None
        if at is not None and to is not None and inode not in self._unwatched:
            self._add(_Event(Op.RENAME, old_parent, old, inode, at, to, new_parent))
            return
        if at is not None:
            self._add(_Event(Op.REMOVE, old_parent, old, inode, at))
        if to is not None:
            if inode.is_dir:
                self._unwatch(inode)
            self._add(_Event(Op.CREATE, new_parent, new, inode, to))

    def _unwatch(self, inode: Inode) -> None:
        """A directory that moves in is not watched yet, with everything beneath it."""
        self._unwatched.add(inode)
        for child in inode.entries.values():
            if child.is_dir:
                self._unwatch(child)

    def _is_missed(self, parent: Inode) -> bool:
        return parent in self._unwatched and self._chance.random() < 0.7

    def _add(self, event: _Event) -> None:
        if len(self._events) >= QUEUE:
            self.overflow("the queue is full")
            return
        self._events.append(event)
        self._woken.set()

    def overflow(self, reason: str) -> None:
        """The waiting events are lost, and the loss is reported instead."""
        self._events.clear()
        self._lost = reason
        self._woken.set()

    # ------------------------------------------------------------------------------------------ reports

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        while True:
            while self.is_idle:
                self._woken = trio.Event()
                await self._woken.wait()
            if self._chance.random() < 0.5:
                await trio.sleep(self._chance.choice((0.0, 0.001, 0.02, 0.3)))
            batch: list[Change | Lost] = []
            if self._lost:
                reason, self._lost = self._lost, ""
                self._unwatched.clear()
                batch += [Lost(Place(root, b""), reason) for root in self._roots.values()]
            count = self._chance.choice((1, 3, 20, QUEUE))
            while self._events and count:
                count -= 1
                self._read(self._events.popleft(), batch)
            if batch:
                yield batch

    def _read(self, event: _Event, batch: list[Change | Lost]) -> None:
        at, to = event.at, event.to
        if self._late and at.path:
            at = self._place(event.parent, event.name) or at
            if to is not None and event.to_parent is not None and event.to_parent.nlink:
                assert self._events is not None
                to = self._place(event.to_parent, to.path.rpartition(b"/")[2]) or to
        is_dir = event.inode.is_dir
        if event.op is Op.CREATE and is_dir:
            self._watch(event.inode)
        change = Change(event.op, at, is_dir, to)
        # A report that the batch has already adds nothing.
        if change.op in (Op.MODIFY, Op.ATTRIB) and batch and batch[-1] == change:
            return
        batch.append(change)

    def _watch(self, inode: Inode) -> None:
        """Changes of the directory, with all beneath it, are reported from now on."""
        self._unwatched.discard(inode)
        for child in inode.entries.values():
            if child.is_dir:
                self._watch(child)


def capture_spec(opened: list[SimCapture], kernel: Kernel, chance: Random) -> DriverSpec:
    """The driver. Each open capture is in `opened` until it is closed."""

    @asynccontextmanager
    async def open_capture(config: NoConfig, context: CaptureContext) -> AsyncIterator[Capture]:
        # Setting watches on very many directories takes time.
        await trio.sleep(chance.choice((0.0, 0.0, 0.05, 1.0)))
        capture = SimCapture([kernel.find(root) for root in context.roots], chance)
        opened.append(capture)
        kernel.watchers.append(capture)
        try:
            yield capture
        finally:
            opened.remove(capture)
            kernel.watchers.remove(capture)

    return DriverSpec(kind=DriverKind.CAPTURE, name="sim", summary="the simulated kernel's events", open=open_capture)
