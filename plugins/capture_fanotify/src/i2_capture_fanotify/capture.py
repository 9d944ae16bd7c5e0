"""`FanotifyCapture`: events of the kernel become changes with places.

One mark per file system sees everything on it from the start, so there is no race with new directories and no limit
of watches. What lies outside the roots is dropped by one look into the cache. There is no filter by process: what
this very process writes beneath a root is a change like any other (a replica may be a source in its turn), and only
events that change something are subscribed to, so that reading makes none.
"""

from __future__ import annotations

import os
import select
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

import trio

from i2_capture_fanotify import fanotify
from i2_capture_fanotify.config import FanotifyConfig
from i2_capture_fanotify.directories import Directories, Prefixes
from i2_capture_fanotify.event import FSID_BYTES, Event, parse
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.filesystem import Unsettled
from i2_capture_fanotify.mounts import MOUNTINFO
from i2_capture_fanotify.roots import Roots
from i2core.api import RESERVED_PREFIX, Capture, CaptureContext, Change, Lost, Op, Place

_NAME_EVENTS = (
    (fanotify.DELETE | fanotify.MOVED_FROM, Op.REMOVE),
    (fanotify.CREATE | fanotify.MOVED_TO, Op.CREATE),
    (fanotify.MODIFY, Op.MODIFY),
    (fanotify.ATTRIB, Op.ATTRIB),
)
"""In the order in which a merged event is told. It does not say what happened first; in this order the reader's last
look at the name is the widest."""
_OF_NAMES = fanotify.DELETE | fanotify.CREATE | fanotify.MODIFY | fanotify.ATTRIB
_OF_NAMES |= fanotify.MOVED_FROM | fanotify.MOVED_TO
_OF_ROADS = fanotify.MOVE_SELF | fanotify.DELETE_SELF
_COMES = fanotify.CREATE | fanotify.MOVED_TO | fanotify.RENAME
_GOES = fanotify.DELETE | fanotify.RENAME | fanotify.MOVED_FROM
_MOVES = fanotify.RENAME | fanotify.MOVED_FROM | fanotify.MOVED_TO
NOISE_S = 0.004
"""Pause after a read that brought nothing of ours, in seconds."""


def _ops(mask: int) -> tuple[Op, ...]:
    ops = tuple(op for bits, op in _NAME_EVENTS if mask & bits)
    # Who creates a name looks at all of it.
    return ops if Op.CREATE not in ops else tuple(op for op in ops if op in (Op.REMOVE, Op.CREATE))


class FanotifyCapture(Capture):
    """Watches while it is entered; `changes` may be cancelled and called again."""

    def __init__(self, config: FanotifyConfig, context: CaptureContext, group: Group | None = None) -> None:
        """Marks the file systems. `group` may be one that is set up otherwise than for the most.

        Raises:
            StopRule: a root is missing, or cannot be watched.
        """
        self._context = context
        self._group = group or Group()
        self._mountinfo = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
        # The mount table is always readable, and each look at it uses up the news that it changed (POLLPRI). Every
        # change is an edge, though, and in an epoll of our own the edge stays until it is fetched; trio waits for
        # that epoll. The first edge is no news.
        self._epoll = select.epoll()
        self._epoll.register(self._group.fd, select.EPOLLIN)
        self._epoll.register(self._mountinfo, select.EPOLLIN | select.EPOLLET)
        self._epoll.poll(0)
        self._directories = Directories(config.cached_directories, context.wants_dir)
        self._roots = Roots(self._group, context, self._directories)
        self._survey_due = False
        self._ops: dict[int, tuple[Op, ...]] = {}
        try:
            self._roots.start()
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        self._directories.close()
        self._epoll.close()
        os.close(self._mountinfo)
        os.close(self._group.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        trio.lowlevel.notify_closing(self._epoll.fileno())
        self._close()

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Batches as the kernel gives them. Nothing waits in this object between two of them: what was not read yet
        waits in the kernel, also when this is cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            batch = self._collect()
            if batch:
                yield batch
            else:
                # All of it was outside the roots: others are busy on this file system, a replica on it perhaps. Waking
                # for each of their changes would cost more than a moment's delay, in which they gather to one read.
                await trio.sleep(NOISE_S)

    def _collect(self) -> list[Change | Lost]:
        batch: list[Change | Lost] = []
        try:
            ready = {fd for fd, _ in self._epoll.poll(0)}
            if self._mountinfo in ready:
                batch += self._roots.survey()
            if self._group.fd in ready:
                self._translate(parse(self._group.read()), batch)
            if self._survey_due:
                self._survey_due = False
                batch += self._roots.survey()
        finally:
            self._directories.close()
        return batch

    def _translate(self, events: list[Event], batch: list[Change | Lost]) -> None:
        last: Event | None = None
        wide: dict[bytes, str] = {}  # file systems (fsid) on which something changed that cannot be named, and why
        for event in events:
            if event == last:
                continue
            last = event
            mask, directory, name, target, to_directory, _ = event
            try:
                if mask & fanotify.RENAME:
                    self._rename(event, batch)
                elif directory is not None:
                    # Most events end here: outside the roots.
                    prefixes = self._directories.prefixes(directory)
                    if prefixes and mask & _OF_NAMES:
                        self._name(mask, prefixes, name, batch)
                else:
                    self._nameless(mask, target, wide)
            except Unsettled:
                wide[(directory or to_directory or b"")[:FSID_BYTES]] = "a directory's place could not be told"
            if mask & (fanotify.ONDIR | fanotify.Q_OVERFLOW):
                self._follow_directory(event)
        for fsid, why in wide.items():
            batch += [Lost(place, why) for place in self._roots.on(fsid)]

    def _name(self, mask: int, prefixes: Prefixes, name: bytes, batch: list[Change | Lost]) -> None:
        """Something happened to a name in a directory with these prefixes, or to the directory itself."""
        is_dir = bool(mask & fanotify.ONDIR)
        ops = self._ops.get(mask)
        if ops is None:
            ops = self._ops[mask] = _ops(mask)
        if name == b".":
            batch += [Change(op, Place(root, path[:-1]), is_dir) for root, path in prefixes for op in ops]
            return
        for place in self._places(prefixes, name, is_dir):
            for op in ops:
                batch.append(Change(op, place, is_dir))

    def _places(self, prefixes: Prefixes, name: bytes, is_dir: bool) -> list[Place]:
        if name.startswith(RESERVED_PREFIX):
            return []
        places = [Place(root, path + name) for root, path in prefixes]
        return [place for place in places if self._context.wants_dir(*place)] if is_dir else places

    def _rename(self, event: Event, batch: list[Change | Lost]) -> None:
        assert event.directory is not None and event.to_directory is not None
        is_dir = bool(event.mask & fanotify.ONDIR)
        old = self._places(self._directories.prefixes(event.directory), event.name, is_dir)
        new = self._places(self._directories.prefixes(event.to_directory), event.to_name, is_dir)
        if is_dir and (old or new) and self._roots.has_mounts:
            # The rename of a directory above a mount changes the mount's place, which the mount table does not tell.
            self._survey_due = True
        # Where a tree is shown more than once, names of one root belong together.
        for place in list(old):
            to = next((each for each in new if each.root == place.root), None)
            if to is not None:
                old.remove(place)
                new.remove(to)
                batch.append(Change(Op.RENAME, place, is_dir, to))
        batch += [Change(Op.RENAME, place, is_dir, to) for place, to in zip(old, new, strict=False)]
        batch += [Change(Op.REMOVE, place, is_dir) for place in old[len(new) :]]
        batch += [Change(Op.CREATE, place, is_dir) for place in new[len(old) :]]

    def _nameless(self, mask: int, target: bytes | None, wide: dict[bytes, str]) -> None:
        """An overflow; or an object was changed through its handle alone, as an NFS server may do after its restart.
        Attributes so changed are mostly the count of links, whose names are told by events of their own."""
        if mask & fanotify.Q_OVERFLOW:
            wide.update(dict.fromkeys(self._roots.fsids, "the kernel dropped events"))
        elif mask & fanotify.MODIFY and target is not None:
            wide[target[:FSID_BYTES]] = "a file was written by its handle, without a name"

    def _follow_directory(self, event: Event) -> None:
        """Keeps in step what is known of directories."""
        mask, directory, name, target, _, _ = event
        if mask & fanotify.Q_OVERFLOW:
            self._directories.clear()
            self._survey_due = True
            return
        if mask & _MOVES:
            self._directories.moved(target)
        elif mask & fanotify.DELETE and target is not None:
            self._directories.forget(target)
        elif mask & fanotify.CREATE and directory is not None and target is not None:
            self._directories.made(target, directory, name)
        self._survey_due |= (
            bool(mask & _OF_ROADS)
            or (bool(mask & _COMES) and self._roots.awaits_root)
            or (bool(mask & _GOES) and target is not None and self._roots.is_view(target))
            # The names of `_rename` tell more precisely; these two events have no pair.
            or (bool(mask & (fanotify.MOVED_FROM | fanotify.MOVED_TO)) and self._roots.has_mounts)
        )
