"""Marks what the kernel is to report: file systems, and the directories above the roots."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from i2_capture_fanotify import fanotify
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.handle import BTRFS_TOP, handle_of, open_handle
from i2_capture_fanotify.mounts import NETWORK, Mount
from i2core.api import Code, StopRule
from i2core.posix.errnos import SCARCE
from i2core.posix.opening import DIRECTORY

_GONE = fanotify.MOVE_SELF | fanotify.DELETE_SELF
_GONE_OR_NEW_ENTRY = _GONE | fanotify.CREATE | fanotify.MOVED_TO


class SameId(StopRule):
    """Two file systems have one id, so one group cannot tell their events apart."""


class Marked(NamedTuple):
    """A marked file system. `fsid` is its id in events; `mark` is the serial of its mark: a file system that is mounted
    again gets another."""

    fsid: bytes
    mark: int


class Marks:
    """The marks of one group."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.found: dict[bytes, Marked] = {}
        """The file systems marked since the survey began, by device."""
        self._serials: dict[bytes, int] = {}
        """Serials of marks by device."""
        self._made = 0

    def renew_ancestors(self, paths: Iterable[bytes]) -> None:
        """Marks the directories above these roots, and no others."""
        self._group.flush_directories()
        self.mark_ancestors(paths)

    def mark_ancestors(self, paths: Iterable[bytes]) -> None:
        """Marks every directory above these roots, so that its rename or removal is noticed. If one is missing, the
        mark on its parent notices when it is created. Most roots share most of these directories."""
        guarded: set[bytes] = set()
        for path in paths:
            above = b"/"
            parts = [part for part in path.split(b"/") if part]
            for part in [*parts, b""]:
                below = os.path.join(above, part)
                if below in guarded:
                    above = below
                    continue
                is_end = bool(part) and not os.path.isdir(below)
                try:
                    fd = os.open(above, DIRECTORY)
                except OSError as error:
                    if error.errno in SCARCE:
                        raise
                    break
                try:
                    self._group.mark_directory(fd, _GONE_OR_NEW_ENTRY if is_end else _GONE)
                finally:
                    os.close(fd)
                if part and not is_end:
                    guarded.add(below)
                above = below

    def mark(self, fd: int, mounts: Sequence[Mount]) -> tuple[Marked, Mount]:
        """Marks the file system of an open directory, which is mounted by one of these mounts.

        Raises:
            OSError: it was mounted only now, or there is no such directory any more.
            StopRule: it cannot be watched.
        """
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
        with _markable(fd, mount) as mark_fd:
            number = os.fstatvfs(mark_fd).f_fsid
            fsid = struct.pack("=II", number & 0xFFFF_FFFF, number >> 32)
            if any(each.fsid == fsid for device, each in self.found.items() if device != mount.device):
                raise SameId(
                    "another file system beneath the roots has the same id (a clone?)",
                    code=Code.CAPTURE_UNFIT,
                    next_step="give it another id, or exclude it",
                )
            if self._group.mark_filesystem(mark_fd):
                self._made += 1
                self._serials[mount.device] = self._made
            marked = self.found[mount.device] = Marked(fsid, self._serials.get(mount.device, 0))
        return marked, mount

    def remove(self, mount: Mount) -> None:
        """Removes the mark of the mounted file system. If its directory cannot be found any more, the mark is removed
        together with the file system."""
        try:
            fd = os.open(mount.point, DIRECTORY)
        except OSError:
            return
        try:
            if handle_of(fd)[1] == mount.id:
                with _markable(fd, mount) as mark_fd:
                    self._group.unmark_filesystem(mark_fd)
        except OSError:
            pass
        finally:
            os.close(fd)


@contextmanager
def _markable(fd: int, mount: Mount) -> Iterator[int]:
    """The directory to mark for the file system of `fd`: on btrfs the top, because no other subvolume can be marked."""
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
