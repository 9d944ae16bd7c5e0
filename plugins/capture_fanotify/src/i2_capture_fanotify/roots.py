"""Locates the roots of all rules: `Roots` has their file systems marked, and those mounted beneath them, and detects
when a root or such a mount is removed, added or replaced.

Each root, and each mount beneath it, is a *view*: a directory, by key, whose place is known. `Directories` finds all
other places from these. `survey` checks all views again, and reports to each rule the differences from the last time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from i2_capture_fanotify.directories import Directories, Prefixes
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.filesystem import FileSystem, Unsettled
from i2_capture_fanotify.handle import handle_of
from i2_capture_fanotify.listener import Slot
from i2_capture_fanotify.marks import Marks, SameId
from i2_capture_fanotify.mounts import Mount, read_mounts
from i2core.api import Code, StopRule
from i2core.posix.errnos import SCARCE
from i2core.posix.opening import DIRECTORY


class Spot(NamedTuple):
    """A root (with an empty path), or the place of a mount beneath it."""

    slot: Slot
    path: bytes


class _View(NamedTuple):
    """The state of a root, or of a mount beneath one. `fsid` is that of the marked file system, as in events; `mark` is
    the serial of its mark: a file system that is mounted again gets another."""

    fsid: bytes
    handle: bytes
    mount: Mount
    mark: int


class Roots:
    """The roots and the mounts beneath them."""

    def __init__(self, group: Group, directories: Directories) -> None:
        self._marks = Marks(group)
        self._directories = directories
        self._slots: dict[Slot, None] = {}
        self._views: dict[Spot, _View] = {}
        self._keys: frozenset[bytes] = frozenset()
        self._missing: dict[Spot, str] = {}
        """Views that should be watched and are not, with the reason."""
        self._mounts: list[Mount] = []
        self._joins_others = False
        self.has_mounts = False
        """True if something is mounted beneath a root."""
        self.awaits_root = False
        """True when a root is missing and may come back."""

    @property
    def filesystems(self) -> list[bytes]:
        """Kinds of the watched file systems, as ``b"ext4"``."""
        return sorted({view.mount.fstype for view in self._views.values()})

    @property
    def unwatched(self) -> list[tuple[bytes, str]]:
        """Paths of mounts beneath the roots that cannot be watched, with the reason."""
        return [(spot.path, why) for spot, why in self._missing.items() if spot.path]

    def is_view(self, key: bytes) -> bool:
        """True for the directory of a root or of a mount beneath one."""
        return key in self._keys

    @property
    def fsids(self) -> set[bytes]:
        """The watched file systems."""
        return {view.fsid for view in self._views.values()}

    def on(self, fsid: bytes) -> list[Spot]:
        """The views on this file system."""
        return [spot for spot, view in self._views.items() if view.fsid == fsid]

    def add(self, slots: Sequence[Slot]) -> None:
        """Watches the roots of one more rule.

        Raises:
            SameId: not possible together with the present rules.
            StopRule: a root is missing, cannot be watched, or a capability is missing.
            OSError: the system lacks memory or descriptors.
        """
        self._joins_others = bool(self._slots)
        try:
            self._marks.mark_ancestors(slot.path for slot in slots)
            self._mounts = read_mounts()
            for slot in slots:
                self._slots[slot] = None
                self._look_at_root(slot)
                self._log_unwatched(slot, {})
                self._demand_root(slot)
            self._anchor()
            for spot in self._spots_of(slots):
                view = self._views[spot]
                self._directories.prefixes(view.fsid + view.handle)  # shows whether handles may be opened
        except Unsettled:
            pass  # its later changes will be reported
        except BaseException:
            self.remove(slots)
            raise
        finally:
            self._joins_others = False
            self._directories.close()

    def _demand_root(self, slot: Slot) -> None:
        why = self._missing.get(Spot(slot, b""))
        if why is not None:
            raise StopRule(
                why,
                code=Code.SOURCE_GONE,
                obj=os.fsdecode(slot.path),
                next_step="mount or restore it, then start the rule",
            )

    def remove(self, slots: Iterable[Slot]) -> None:
        """Stops watching these roots. Marks on directories above them stay until the next survey."""
        for slot in slots:
            self._slots.pop(slot, None)
        gone = [self._views.pop(spot) for spot in self._spots_of(slots)]
        self._missing = {spot: why for spot, why in self._missing.items() if spot.slot in self._slots}
        used = {view.mount.device for view in self._views.values()}
        for view in gone:
            if view.mount.device not in used and self._marks.found.pop(view.mount.device, None) is not None:
                self._marks.remove(view.mount)
        self._anchor()

    def survey(self) -> None:
        """Checks all roots and mounts again, adds missing marks, and reports to the rules where changes may have been
        missed, or that a root cannot be watched any more.

        Raises:
            Unsettled: the system lacks memory or descriptors; retry later.
        """
        before = self._views, self._missing, self._marks.found
        self._views, self._missing, self._marks.found = {}, {}, {}
        try:
            # Directories above the roots first: later changes there make an event, earlier ones are found below.
            self._marks.renew_ancestors(slot.path for slot in self._slots)
            self._mounts = read_mounts()
            for slot in self._slots:
                try:
                    self._look_at_root(slot)
                except StopRule as error:
                    slot.listener.failure = error
            self._anchor()
        except OSError as error:
            self._views, self._missing, self._marks.found = before
            raise Unsettled from error
        for slot in self._slots:
            self._log_unwatched(slot, before[1])
        self._report_differences(before[0], before[1])

    def _report_differences(self, before: dict[Spot, _View], missed_before: dict[Spot, str]) -> None:
        for spot, view in self._views.items():
            known = before.get(spot)
            if known is None:
                spot.slot.lost(spot.path, "the directory was mounted" if spot.path else "the root exists again")
            elif (view.handle, view.mount.device) != (known.handle, known.mount.device):
                spot.slot.lost(spot.path, "another directory is here now")
            elif view.mark != known.mark:
                spot.slot.lost(spot.path, "the file system was mounted again")
        for spot in before.keys() - self._views.keys():
            spot.slot.lost(spot.path, self._missing.get(spot, "the directory was unmounted or moved"))
        for spot, why in self._missing.items():
            if spot.path and spot not in missed_before and spot not in before:
                spot.slot.lost(spot.path, why)

    def _log_unwatched(self, slot: Slot, missed_before: dict[Spot, str]) -> None:
        for spot, why in self._missing.items():
            if spot.slot is slot and spot.path and spot not in missed_before:
                slot.listener.context.say(f"{os.fsdecode(os.path.join(slot.path, spot.path))} is not watched: {why}")

    def _spots_of(self, slots: Iterable[Slot]) -> list[Spot]:
        wanted = set(slots)
        return [spot for spot in self._views if spot.slot in wanted]

    def _look_at_root(self, slot: Slot) -> None:
        spot = Spot(slot, b"")
        if os.path.realpath(slot.path) != slot.path:
            self._missing[spot] = "the root or a directory above it was replaced by a symlink"
            return
        try:
            view = self._look(slot.path)
        except OSError as error:
            if error.errno in SCARCE:
                raise
            self._missing[spot] = f"the root is gone: {error.strerror}"
            return
        except StopRule as error:
            if self._joins_others and isinstance(error, SameId):
                raise
            obj = os.fsdecode(slot.path)
            raise StopRule(error.cause, code=error.code, obj=obj, next_step=error.next_step) from error
        if view is None:
            self._missing[spot] = "the root is being mounted over"
            return
        self._views[spot] = view
        for mount in self._mounts:
            self._look_at_mount(slot, mount)

    def _look_at_mount(self, slot: Slot, mount: Mount) -> None:
        top = slot.path.rstrip(b"/") + b"/"
        if not mount.point.startswith(top) or mount.point == slot.path:
            return
        spot = Spot(slot, mount.point[len(top) :])
        if not self._wants(spot):
            return
        try:
            view = self._look(mount.point)
        except NotADirectoryError:
            self._missing[spot] = "a single file is mounted here: only the periodic scan finds its changes"
        except OSError as error:
            if error.errno in SCARCE:
                raise
            return  # removed already, or hidden by a mount above it
        except StopRule as error:
            if self._joins_others and isinstance(error, SameId):
                raise
            self._missing[spot] = f"{error.cause}: only the periodic scan finds changes"
        else:
            if view is not None and view.mount.point == mount.point:
                self._views[spot] = view

    @staticmethod
    def _wants(spot: Spot) -> bool:
        parts = spot.path.split(b"/")
        return all(spot.slot.wants_dir(b"/".join(parts[:end])) for end in range(1, len(parts) + 1))

    def _look(self, path: bytes) -> _View | None:
        """Marks the file system of the directory at `path`, and returns its view; None if it was mounted only now.

        Raises:
            OSError: there is no such directory.
            StopRule: it cannot be watched.
        """
        fd = os.open(path, DIRECTORY)
        try:
            marked, mount = self._marks.mark(fd, self._mounts)
            # Opened again after the mark: a directory that replaced it before the mark is found here.
            handle, mount_id = handle_of(fd)
        finally:
            os.close(fd)
        return _View(marked.fsid, handle, mount, marked.mark) if mount.id == mount_id else None

    def _anchor(self) -> None:
        self.has_mounts = any(spot.path for spot in self._views)
        self.awaits_root = any(not spot.path for spot in self._missing)
        anchors: dict[bytes, Prefixes] = {}
        self._keys = frozenset(view.fsid + view.handle for view in self._views.values())
        shown: dict[bytes, list[Mount]] = {}
        for (slot, path), view in self._views.items():
            key = view.fsid + view.handle
            anchors[key] = (*anchors.get(key, ()), (slot, path + b"/" if path else b""))
            shown.setdefault(view.fsid, []).append(view.mount)
        filesystems = {}
        for device, marked in self._marks.found.items():
            same = (mount for mount in self._mounts if mount.device == device and mount.root == b"/")
            whole = [mount for mount in same if _is_visible(mount)]
            if whole or marked.fsid in shown:
                filesystems[marked.fsid] = FileSystem(whole or shown[marked.fsid])
        self._directories.anchor(anchors, filesystems)


def _is_visible(mount: Mount) -> bool:
    """True if the path of the mount point leads to this mount, and not to another one on top of it."""
    try:
        fd = os.open(mount.point, DIRECTORY)
    except OSError:
        return False
    try:
        return handle_of(fd)[1] == mount.id
    except OSError:
        return False
    finally:
        os.close(fd)
