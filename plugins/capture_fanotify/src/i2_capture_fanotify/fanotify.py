"""The kernel's interface, fanotify(7), as far as this capture uses it: one `Group` with its marks.

Constants are those of <linux/fanotify.h>. Features are detected by trying them, not by the kernel version.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
from types import TracebackType
from typing import Self

from i2core.api import Code, StopRule

MODIFY = 0x2
ATTRIB = 0x4
MOVED_FROM = 0x40
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
DELETE_SELF = 0x400
MOVE_SELF = 0x800
Q_OVERFLOW = 0x4000
RENAME = 0x1000_0000
ONDIR = 0x4000_0000

_CLOEXEC, _NONBLOCK, _UNLIMITED_QUEUE, _UNLIMITED_MARKS = 0x1, 0x2, 0x10, 0x20
_REPORT_FID, _REPORT_DIR_FID, _REPORT_NAME, _REPORT_TARGET_FID = 0x200, 0x400, 0x800, 0x1000
DFID_NAME = _REPORT_FID | _REPORT_DIR_FID | _REPORT_NAME
DFID_NAME_TARGET = DFID_NAME | _REPORT_TARGET_FID

_MARK_ADD, _MARK_REMOVE, _MARK_FLUSH, _MARK_FILESYSTEM = 0x1, 0x2, 0x80, 0x100
_NEVER_ASKED = 0x1
"""FAN_ACCESS: no mark of this group has it, so removing it changes nothing and only shows whether there is a mark."""

_BASE = MODIFY | ATTRIB | CREATE | DELETE | ONDIR
_WITH_RENAME = _BASE | RENAME
_WITHOUT_RENAME = _BASE | MOVED_FROM | MOVED_TO

_AT_FDCWD = -100
_READ_BYTES = 256 * 1024

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fanotify_init.argtypes = (ctypes.c_uint, ctypes.c_uint)
_libc.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)

_NO_GROUP = {
    errno.EPERM: ("CAP_SYS_ADMIN is missing", "run the node as root"),
    errno.ENOSYS: ("this kernel is built without fanotify", "choose another capture, or auto"),
    errno.EINVAL: ("this kernel's fanotify does not report names (FAN_REPORT_DFID_NAME)", "choose another capture"),
    errno.EMFILE: ("too many fanotify groups or open files", "raise fs.fanotify.max_user_groups or the file limit"),
}
_NO_MARK = {
    errno.ENODEV: ("this file system has no id for fanotify (fsid 0)", "choose another capture, or auto"),
    errno.EOPNOTSUPP: ("this file system has no file handles", "choose another capture, or auto"),
    errno.EXDEV: ("this subvolume's id differs from its file system's", "choose another capture, or auto"),
    errno.EPERM: ("CAP_SYS_ADMIN is missing", "run the node as root"),
    errno.ENOSPC: ("too many fanotify marks", "raise fs.fanotify.max_user_marks"),
}


def _unfit(number: int, known: dict[int, tuple[str, str]], call: str) -> StopRule:
    cause, next_step = known.get(number, (f"{call}: {os.strerror(number)}", "choose another capture, or auto"))
    return StopRule(cause, code=Code.CAPTURE_UNFIT, next_step=next_step)


class Group:
    """A notification group: a queue of events about marked objects. Closing it removes all marks.

    `reports_targets`: events contain the handle of the object itself as well as that of its directory.
    """

    def __init__(self, *, reports: tuple[int, ...] = (DFID_NAME_TARGET, DFID_NAME), limited: bool = False) -> None:
        """Takes the first of `reports` that this kernel knows. `limited` keeps the queue at the system's limit
        (fs.fanotify.max_queued_events) instead of letting it grow until it is read.

        Raises:
            StopRule: not permitted, or not supported here.
        """
        flags = _CLOEXEC | _NONBLOCK | _UNLIMITED_MARKS | (0 if limited else _UNLIMITED_QUEUE)
        for report in reports:
            self.fd = int(_libc.fanotify_init(flags | report, os.O_RDONLY | os.O_CLOEXEC))
            if self.fd >= 0:
                self.reports_targets = bool(report & _REPORT_TARGET_FID)
                break
            if ctypes.get_errno() != errno.EINVAL:
                break
        if self.fd < 0:
            raise _unfit(ctypes.get_errno(), _NO_GROUP, "fanotify_init")
        # FAN_RENAME came with the target handles, and is not useful without them.
        self._events = _WITH_RENAME if self.reports_targets else _WITHOUT_RENAME

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)

    def _mark(self, flags: int, events: int, dir_fd: int, path: bytes = b".") -> int:
        """The errno, 0 for success. The path is ``"."`` because a null one needs a descriptor that is open for
        reading."""
        done = _libc.fanotify_mark(self.fd, flags, events, dir_fd, path)
        return ctypes.get_errno() if done < 0 else 0

    def mark_filesystem(self, dir_fd: int) -> bool:
        """Watches the whole file system that contains `dir_fd`; True if it was not watched before.

        Raises:
            StopRule: this file system cannot be watched.
        """
        fresh = self._mark(_MARK_REMOVE | _MARK_FILESYSTEM, _NEVER_ASKED, dir_fd) != 0
        number = self._mark(_MARK_ADD | _MARK_FILESYSTEM, self._events, dir_fd)
        if number == errno.EINVAL and self._events & RENAME:
            self._events = _WITHOUT_RENAME
            number = self._mark(_MARK_ADD | _MARK_FILESYSTEM, self._events, dir_fd)
        if number:
            raise _unfit(number, _NO_MARK, "fanotify_mark")
        return fresh

    def unmark_filesystem(self, dir_fd: int) -> None:
        """Stops watching the file system that contains `dir_fd`."""
        self._mark(_MARK_REMOVE | _MARK_FILESYSTEM, self._events, dir_fd)

    def mark_directory(self, dir_fd: int, events: int) -> None:
        """Watches one directory for `events`, if possible: a directory above a root may be on a file system that does
        not support marks."""
        self._mark(_MARK_ADD, events | ONDIR, dir_fd)

    def flush_directories(self) -> None:
        """Removes the marks of `mark_directory`; file systems stay marked."""
        self._mark(_MARK_FLUSH, 0, _AT_FDCWD)

    @property
    def has_events(self) -> bool:
        """True when events wait. FIONREAD would count them, one by one."""
        asked = select.poll()
        asked.register(self.fd, select.POLLIN)
        return bool(asked.poll(0))

    def read(self) -> bytes:
        """The waiting events, as many as fit into one read; empty when there are none."""
        try:
            return os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return b""
