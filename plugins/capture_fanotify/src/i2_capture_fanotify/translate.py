"""Translates events of the kernel into hints with places, for all rules at once."""

from __future__ import annotations

from collections.abc import Iterable

import trio

from i2_capture_fanotify import fanotify
from i2_capture_fanotify.directories import Directories, Prefixes
from i2_capture_fanotify.event import FSID_BYTES, Event, Noise
from i2_capture_fanotify.filesystem import Unsettled
from i2_capture_fanotify.handle import inode_of
from i2_capture_fanotify.links import Links
from i2_capture_fanotify.listener import Listener
from i2_capture_fanotify.roots import Roots, Spot
from i2core.api import Change, Op, Place

_NAME_EVENTS = (
    (fanotify.DELETE | fanotify.MOVED_FROM, Op.REMOVE),
    (fanotify.CREATE | fanotify.MOVED_TO, Op.CREATE),
    (fanotify.MODIFY, Op.MODIFY),
    (fanotify.ATTRIB, Op.ATTRIB),
)
"""The order of the operations of a merged event. The event does not contain the real order; with this one, the reader's
last look at the name covers most."""
TRY_AGAIN_S, TRY_FOR_S = 0.01, 2.0
"""Interval and duration of retries for a place that cannot be determined; then everything on its file system is
lost."""
MOST_ASIDE = 10_000
"""Most events that wait for a retry."""

_OF_NAMES = fanotify.DELETE | fanotify.CREATE | fanotify.MODIFY | fanotify.ATTRIB
_OF_NAMES |= fanotify.MOVED_FROM | fanotify.MOVED_TO
_OF_FILES = fanotify.MODIFY | fanotify.ATTRIB
_OF_ANCESTORS = fanotify.MOVE_SELF | fanotify.DELETE_SELF
_COMES = fanotify.CREATE | fanotify.MOVED_TO | fanotify.RENAME
_GOES = fanotify.DELETE | fanotify.RENAME | fanotify.MOVED_FROM
_MOVES = fanotify.RENAME | fanotify.MOVED_FROM | fanotify.MOVED_TO


def _ops(mask: int) -> tuple[Op, ...]:
    ops = tuple(op for bits, op in _NAME_EVENTS if mask & bits)
    # A reader of CREATE looks at the whole object.
    return ops if Op.CREATE not in ops else tuple(op for op in ops if op in (Op.REMOVE, Op.CREATE))


def _fsid(event: Event) -> bytes:
    return (event.directory or event.to_directory or event.target or b"")[:FSID_BYTES]


class Translator:
    """Reports events to each rule whose roots they concern, and updates the cache of directories."""

    def __init__(self, roots: Roots, directories: Directories) -> None:
        self._roots = roots
        self._directories = directories
        self._links = Links()
        self._ops: dict[int, tuple[Op, ...]] = {}
        self._aside: list[tuple[Event, float]] = []
        """Events whose place could not be determined, with the end of their retries."""
        self._again_at = 0.0
        self.survey_due = False
        """Roots or mounts may have changed."""

    @property
    def due_at(self) -> float | None:
        """The next time for `report_due`, by trio's clock; None if nothing waits."""
        at = self._links.due_at
        if not self._aside:
            return at
        return self._again_at if at is None else min(at, self._again_at)

    def report_due(self) -> None:
        """Reports events that were held back after a recent report of the same file, and retries events whose place
        could not be determined."""
        now = trio.current_time()
        for key, mask in self._links.due(now):
            self._report_inode(key, mask)
        if not self._aside or now < self._again_at:
            return
        aside, self._aside = self._aside, []
        wide: set[bytes] = set()  # file systems (fsid) that were reported as lost
        for event, until in aside:
            fsid = _fsid(event)
            if fsid in wide:
                continue
            try:
                self._report(event)
            except Unsettled:
                if now < until and len(aside) < MOST_ASIDE:
                    self._aside.append((event, until))
                    continue
                wide.add(fsid)
                self._lose(self._roots.on(fsid), "a directory's place could not be determined")
        self._aside = [each for each in self._aside if _fsid(each[0]) not in wide]
        self._again_at = now + TRY_AGAIN_S

    @property
    def noise(self) -> Noise:
        """Events that need not be translated."""
        return Noise(self._directories.outside, self._links.single)

    def translate(self, events: Iterable[Event]) -> None:
        """Reports the events. An event whose place cannot be determined now is set aside, and does not delay others."""
        last: Event | None = None
        for event in events:
            if event == last:
                continue
            last = event
            try:
                self._report(event)
            except Unsettled:
                now = trio.current_time()
                self._again_at = now + TRY_AGAIN_S if not self._aside else self._again_at
                self._aside.append((event, now + TRY_FOR_S))
            if event.mask & (fanotify.ONDIR | fanotify.Q_OVERFLOW):
                self._follow_directory(event)

    def _report(self, event: Event) -> None:
        mask, directory, name, target, _, _ = event
        if mask & fanotify.RENAME:
            self._rename(event)
        elif directory is not None:
            # Most events end here: outside the roots.
            prefixes = self._directories.prefixes(directory)
            if prefixes and mask & _OF_NAMES:
                self._name(mask, prefixes, name, target)
            elif target is not None and mask & (_OF_FILES | fanotify.CREATE) and not mask & fanotify.ONDIR:
                self._outside(directory, name, target, mask)
        else:
            self._nameless(mask, target)

    @staticmethod
    def _lose(spots: list[Spot], why: str) -> None:
        for slot, path in spots:
            slot.lost(path, why)

    def _name(self, mask: int, prefixes: Prefixes, name: bytes, target: bytes | None) -> None:
        """Reports a change of a name in a directory with these prefixes, or of the directory itself."""
        ops = self._ops.get(mask)
        if ops is None:
            ops = self._ops[mask] = _ops(mask)
        if mask & fanotify.ONDIR:
            for slot, path in prefixes:
                at = path[:-1] if name == b"." else path + name
                if name == b"." or slot.wants_dir(at):
                    slot.listener.waiting += [Change(op, Place(slot.root, at), True) for op in ops]
            return
        inode, new = inode_of(target, FSID_BYTES) if target is not None else 0, tuple.__new__
        for slot, path in prefixes:
            tell, place = slot.listener.waiting.append, new(Place, (slot.root, path + name))
            for op in ops:
                tell(new(Change, (op, place, False, None, False, 0, 0, inode)))

    def _rename(self, event: Event) -> None:
        assert event.directory is not None and event.to_directory is not None
        is_dir = bool(event.mask & fanotify.ONDIR)
        old = self._places(self._directories.prefixes(event.directory), event.name, is_dir)
        new = self._places(self._directories.prefixes(event.to_directory), event.to_name, is_dir)
        if is_dir and (old or new) and self._roots.has_mounts:
            # The rename of a directory above a mount changes the mount's place, without a notice of the mount table.
            self.survey_due = True
        for listener in dict.fromkeys((*old, *new)):
            _report_rename(listener, old.get(listener, []), new.get(listener, []), is_dir)

    @staticmethod
    def _places(prefixes: Prefixes, name: bytes, is_dir: bool) -> dict[Listener, list[Place]]:
        places: dict[Listener, list[Place]] = {}
        for slot, path in prefixes:
            if not is_dir or slot.wants_dir(path + name):
                places.setdefault(slot.listener, []).append(Place(slot.root, path + name))
        return places

    # ------------------------------------------------------------------------------------- files by inode

    def _outside(self, directory: bytes, name: bytes, target: bytes, mask: int) -> None:
        """Handles a change of a file under a name outside the roots; it may have other names within."""
        links = self._links
        if mask & fanotify.CREATE and links.came(target):
            return
        if not mask & _OF_FILES:
            return
        several = links.has_several(target)
        if several is None:
            count = self._directories.links(target)
            elsewhere = links.was_recounted(target) and not self._directories.leads(directory, name, target)
            several = links.note(target, several=count > 1 or (count == 1 and elsewhere))
        if several and self._links.may_report(target, mask, trio.current_time()):
            self._report_inode(target, mask)

    def _report_inode(self, target: bytes, mask: int) -> None:
        op = Op.MODIFY if mask & fanotify.MODIFY else Op.ATTRIB
        inode, spots = inode_of(target, FSID_BYTES), self._roots.on(target[:FSID_BYTES])
        if not inode:
            self._lose(spots, "a file was changed by a name outside, and its inode number is not known")
            return
        for listener, root in {slot.listener: slot.root for slot, _ in spots}.items():
            listener.waiting.append(Change(op, Place(root, b""), inode=inode))

    def _nameless(self, mask: int, target: bytes | None) -> None:
        """Handles an event without a name: an overflow; or a change of a file's link count; or a change only through
        its handle, as an NFS server may do after its restart. Changes of attributes are not reported here: new and
        removed names have their own events."""
        if mask & fanotify.Q_OVERFLOW:
            for fsid in self._roots.fsids:
                self._lose(self._roots.on(fsid), "the kernel dropped events")
        elif target is not None and not mask & fanotify.ONDIR:
            if mask & fanotify.ATTRIB:
                self._links.recounted(target)
            if mask & fanotify.MODIFY and self._links.may_report(target, mask, trio.current_time()):
                self._report_inode(target, mask)

    # ------------------------------------------------------------------------------------- directories

    def _follow_directory(self, event: Event) -> None:
        """Updates the cache of directories."""
        mask, directory, name, target, _, _ = event
        if mask & fanotify.Q_OVERFLOW:
            self._directories.clear()
            self._links.clear()
            self.survey_due = True
            return
        if mask & _MOVES:
            self._directories.moved(target)
        elif mask & fanotify.DELETE and target is not None:
            self._directories.forget(target)
        elif mask & fanotify.CREATE and directory is not None and target is not None:
            self._directories.made(target, directory, name)
        self.survey_due |= (
            bool(mask & _OF_ANCESTORS)
            or (bool(mask & _COMES) and self._roots.awaits_root)
            or (bool(mask & _GOES) and target is not None and self._roots.is_view(target))
            # `_rename` reports both names of a rename; these two events are not paired.
            or (bool(mask & (fanotify.MOVED_FROM | fanotify.MOVED_TO)) and self._roots.has_mounts)
        )


def _report_rename(listener: Listener, old: list[Place], new: list[Place], is_dir: bool) -> None:
    reports = listener.waiting
    # If a tree is visible more than once, old and new names of the same root belong together.
    for place in list(old):
        to = next((each for each in new if each.root == place.root), None)
        if to is not None:
            old.remove(place)
            new.remove(to)
            reports.append(Change(Op.RENAME, place, is_dir, to))
    reports += [Change(Op.RENAME, place, is_dir, to) for place, to in zip(old, new, strict=False)]
    reports += [Change(Op.REMOVE, place, is_dir) for place in old[len(new) :]]
    reports += [Change(Op.CREATE, place, is_dir) for place in new[len(old) :]]
