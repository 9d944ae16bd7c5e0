"""Where the rule's roots are: `Roots` marks their file systems, and those mounted beneath them, and notices when a
root or such a mount goes, comes or is replaced.

Each root, and each mount beneath it, is a *view*: a directory, by key, whose place is given. All else is found from
there by `Directories`. `survey` looks at everything anew and tells what differs from the time before.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from i2_capture_fanotify import fanotify
from i2_capture_fanotify.directories import Directories, Prefixes
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.filesystem import FileSystem, Unsettled
from i2_capture_fanotify.handle import BTRFS_TOP, handle_of, open_handle
from i2_capture_fanotify.mounts import NETWORK, Mount, read_mounts
from i2core.api import RESERVED_PREFIX, CaptureContext, Code, Lost, Place, StopRule

_ROAD = fanotify.MOVE_SELF | fanotify.DELETE_SELF
_ROAD_END = _ROAD | fanotify.CREATE | fanotify.MOVED_TO
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _View(NamedTuple):
    """A root, or a mount beneath one, as it was found. `fsid` is that of the marked file system, as events tell it."""

    fsid: bytes
    handle: bytes
    mount: Mount


class Roots:
    """The roots and the mounts beneath them."""

    def __init__(self, group: Group, context: CaptureContext, directories: Directories) -> None:
        self._group = group
        self._context = context
        self._directories = directories
        self._paths = tuple(os.path.realpath(root) for root in context.roots)
        self._views: dict[Place, _View] = {}
        self._keys: frozenset[bytes] = frozenset()
        self._missing: dict[Place, str] = {}
        """What should be watched and is not, and why."""
        self._marked: dict[bytes, bytes] = {}
        """fsid by device, of the file systems met in this survey."""
        self._fresh: set[bytes] = set()
        """Devices of those that had no mark before."""

    @property
    def has_mounts(self) -> bool:
        """True when something is mounted beneath a root."""
        return any(place.path for place in self._views)

    @property
    def awaits_root(self) -> bool:
        """True when a root is missing and may come back."""
        return any(not place.path for place in self._missing)

    @property
    def filesystems(self) -> list[bytes]:
        """Kinds of the watched file systems, as ``b"ext4"``."""
        return sorted({view.mount.fstype for view in self._views.values()})

    @property
    def unwatched(self) -> list[tuple[Place, str]]:
        """Mounts beneath the roots that cannot be watched, and why."""
        return [(place, why) for place, why in self._missing.items() if place.path]

    def is_view(self, key: bytes) -> bool:
        """True for the directory of a root or of a mount beneath one."""
        return key in self._keys

    @property
    def fsids(self) -> set[bytes]:
        """The watched file systems."""
        return {view.fsid for view in self._views.values()}

    def on(self, fsid: bytes) -> list[Place]:
        """The views that lie on this file system."""
        return [place for place, view in self._views.items() if view.fsid == fsid]

    def start(self) -> None:
        """The first survey.

        Raises:
            StopRule: a root is missing, cannot be watched, or a capability is missing.
        """
        self.survey()
        for place, why in self._missing.items():
            if not place.path:
                raise StopRule(
                    why,
                    code=Code.SOURCE_GONE,
                    obj=os.fsdecode(self._paths[place.root]),
                    next_step="mount or restore it, then start the rule",
                )
        try:
            for key in self._keys:
                self._directories.prefixes(key)  # tells whether handles may be opened
        except Unsettled:
            pass  # what happens to it will be told
        finally:
            self._directories.close()

    def survey(self) -> list[Lost]:
        """Looks at roots and mounts anew, marks what has no mark yet, and tells where changes may have been missed.

        Raises:
            StopRule: a root cannot be watched any more.
        """
        # The roads first: what changes after that makes an event, what changed before is seen below.
        self._guard_roads()
        before, missed_before = self._views, self._missing
        self._views, self._missing, self._marked, self._fresh = {}, {}, {}, set()
        mounts = read_mounts()
        for root, path in enumerate(self._paths):
            self._look_at_root(root, path, mounts)
        self._anchor(mounts)
        return [Lost(place, why) for place, why in self._differences(before, missed_before)]

    def _differences(self, before: dict[Place, _View], missed_before: dict[Place, str]) -> Iterator[tuple[Place, str]]:
        for place, view in self._views.items():
            if place not in before:
                yield place, "the directory was mounted" if place.path else "the root is there again"
            elif (view.handle, view.mount.device) != (before[place].handle, before[place].mount.device):
                yield place, "another directory stands here now"
            elif view.mount.device in self._fresh:
                yield place, "the file system was mounted anew"
        for place in before.keys() - self._views.keys():
            yield place, self._missing.get(place, "the directory was unmounted or moved")
        for place, why in self._missing.items():
            if place.path and place not in missed_before:
                path = os.path.join(self._paths[place.root], place.path)
                self._context.say(f"{os.fsdecode(path)} is not watched: {why}")
                if place not in before:
                    yield place, why

    def _guard_roads(self) -> None:
        """Marks every directory on the way to a root, so that its renaming or removal is noticed; and where the way
        ends too early, the coming of the next."""
        self._group.flush_directories()
        for path in self._paths:
            above = b"/"
            parts = [part for part in path.split(b"/") if part]
            for part in [*parts, b""]:
                below = os.path.join(above, part)
                is_end = bool(part) and not os.path.isdir(below)
                try:
                    fd = os.open(above, _DIRECTORY)
                except OSError:
                    break
                try:
                    self._group.mark_directory(fd, _ROAD_END if is_end else _ROAD)
                finally:
                    os.close(fd)
                above = below

    def _look_at_root(self, root: int, path: bytes, mounts: list[Mount]) -> None:
        place = Place(root, b"")
        if os.path.realpath(path) != path:
            self._missing[place] = "a symlink stands where the root or a directory above it was"
            return
        try:
            view = self._look(path, mounts)
        except OSError as error:
            self._missing[place] = f"the root is gone: {error.strerror}"
            return
        except StopRule as error:
            raise StopRule(error.cause, code=error.code, obj=os.fsdecode(path), next_step=error.next_step) from error
        if view is None:
            self._missing[place] = "the root is being mounted over"
            return
        self._views[place] = view
        for mount in mounts:
            self._look_at_mount(root, path, mount, mounts)

    def _look_at_mount(self, root: int, path: bytes, mount: Mount, mounts: list[Mount]) -> None:
        top = path.rstrip(b"/") + b"/"
        if not mount.point.startswith(top) or mount.point == path:
            return
        place = Place(root, mount.point[len(top) :])
        if not self._wants(place):
            return
        try:
            view = self._look(mount.point, mounts)
        except NotADirectoryError:
            self._missing[place] = "a single file is mounted here: its changes are found by the periodic scan alone"
        except OSError:
            return  # gone already, or hidden by a mount above it
        except StopRule as error:
            self._missing[place] = f"{error.cause}: changes are found by the periodic scan alone"
        else:
            if view is not None and view.mount.point == mount.point:
                self._views[place] = view

    def _wants(self, place: Place) -> bool:
        parts = place.path.split(b"/")
        if any(part.startswith(RESERVED_PREFIX) for part in parts):
            return False
        return all(self._context.wants_dir(place.root, b"/".join(parts[:end])) for end in range(1, len(parts) + 1))

    def _look(self, path: bytes, mounts: list[Mount]) -> _View | None:
        """The directory at `path`, its file system marked; None when it was mounted a moment ago.

        Raises:
            OSError: there is no such directory.
            StopRule: it cannot be watched.
        """
        fd = os.open(path, _DIRECTORY)
        try:
            fsid, mount = self._mark(fd, mounts)
            # Once more, behind the mark: a directory that came before it is what is found here.
            handle, mount_id = handle_of(fd)
        finally:
            os.close(fd)
        return _View(fsid, handle, mount) if mount.id == mount_id else None

    def _mark(self, fd: int, mounts: list[Mount]) -> tuple[bytes, Mount]:
        try:
            mount_id = handle_of(fd)[1]
        except OSError as error:
            raise StopRule(
                f"the file system has no file handles ({error.strerror})",
                code=Code.CAPTURE_UNFIT,
                next_step="choose another capture, or auto",
            ) from error
        mount = next((each for each in mounts if each.id == mount_id), None)
        if mount is None:
            raise FileNotFoundError
        if mount.fstype in NETWORK:
            raise StopRule(
                f"{mount.fstype.decode()} is a network file system: changes made by other hosts cannot be seen",
                code=Code.CAPTURE_UNFIT,
                next_step="watch it on the host that has the disk",
            )
        if mount.device not in self._marked:
            with _markable(fd, mount) as mark_fd:
                number = os.fstatvfs(mark_fd).f_fsid
                fsid = struct.pack("=II", number & 0xFFFF_FFFF, number >> 32)
                if fsid in self._marked.values():
                    raise StopRule(
                        "another file system beneath the roots has the same id (a clone?)",
                        code=Code.CAPTURE_UNFIT,
                        next_step="give it an id of its own, or exclude it",
                    )
                if self._group.mark_filesystem(mark_fd):
                    self._fresh.add(mount.device)
            self._marked[mount.device] = fsid
        return self._marked[mount.device], mount

    def _anchor(self, mounts: list[Mount]) -> None:
        anchors: dict[bytes, Prefixes] = {}
        self._keys = frozenset(view.fsid + view.handle for view in self._views.values())
        shown: dict[bytes, list[Mount]] = {}
        for place, view in self._views.items():
            key = view.fsid + view.handle
            prefix = place.path + b"/" if place.path else b""
            anchors[key] = (*anchors.get(key, ()), (place.root, prefix))
            shown.setdefault(view.fsid, []).append(view.mount)
        filesystems = {}
        for device, fsid in self._marked.items():
            whole = [mount for mount in mounts if mount.device == device and mount.root == b"/" and _is_visible(mount)]
            if whole or fsid in shown:
                filesystems[fsid] = FileSystem(whole or shown[fsid])
        self._directories.anchor(anchors, filesystems)


def _is_visible(mount: Mount) -> bool:
    """True when the mount's point leads to it, and not to another one above it."""
    try:
        fd = os.open(mount.point, _DIRECTORY)
    except OSError:
        return False
    try:
        return handle_of(fd)[1] == mount.id
    except OSError:
        return False
    finally:
        os.close(fd)


@contextmanager
def _markable(fd: int, mount: Mount) -> Iterator[int]:
    """The directory to mark for the file system of `fd`: on btrfs its top, since no other subvolume may be marked."""
    if mount.fstype != b"btrfs":
        yield fd
        return
    entry = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        top = open_handle(entry, BTRFS_TOP)
    finally:
        os.close(entry)
    try:
        yield top
    finally:
        os.close(top)
