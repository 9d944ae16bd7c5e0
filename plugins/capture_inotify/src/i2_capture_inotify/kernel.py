"""A thin layer over inotify(7) by ctypes: the calls and constants that are needed, with their errors.

The existing libraries for inotify drop the overflow mark or the order of events; a replica needs both.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x1000000
IN_ISDIR = 0x40000000

WATCH_MASK = (
    IN_MODIFY
    | IN_ATTRIB
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
    | IN_ONLYDIR
)
"""No events for opening and reading, so that our own reads make none. MODIFY reports writes as they happen, so
CLOSE_WRITE adds nothing. The two SELF bits matter only for roots, but an inode has one mask. No EXCL_UNLINK: a file
that is written through a removed name may have others (``ln log log.1; rm log``, while the writer continues)."""

EVENT = struct.Struct("iIII")
"""``struct inotify_event`` without the name: wd, mask, cookie, and the bytes of the NUL-padded name that follows."""

READ_BYTES = 64 * 1024
_LIMITS = "/proc/sys/fs/inotify/"


def _bind_libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
    libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
    return libc


_libc = _bind_libc()


def limit(name: str) -> int:
    """A limit of this host, such as ``max_user_watches``; 0 if it cannot be read."""
    try:
        with open(_LIMITS + name, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


class Inotify:
    """One inotify instance, not blocking.

    Raises:
        OSError: EMFILE when this user has ``max_user_instances`` already.
    """

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise _error()

    def watch(self, directory_fd: int) -> int:
        """The watch descriptor of an open directory; the same one again when it is watched already.

        By descriptor: a name could be exchanged in between, and the watch would be on another directory.

        Raises:
            OSError: ENOSPC when ``max_user_watches`` is used up.
        """
        wd: int = _libc.inotify_add_watch(self.fd, b"/proc/self/fd/%d" % directory_fd, WATCH_MASK)
        if wd < 0:
            raise _error()
        return wd

    def unwatch(self, wd: int) -> None:
        """Ends a watch. The kernel may have ended it before; then it returns EINVAL, which is ignored."""
        if _libc.inotify_rm_watch(self.fd, wd) < 0 and ctypes.get_errno() != errno.EINVAL:
            raise _error()

    @property
    def has_events(self) -> bool:
        """True when events wait."""
        asked = select.poll()
        asked.register(self.fd, select.POLLIN)
        return bool(asked.poll(0))

    def read(self) -> bytes:
        """The waiting events, only complete ones, at most `READ_BYTES`; ``b""`` if there are none."""
        try:
            return os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Ends all watches."""
        os.close(self.fd)


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
