"""The directory of a journal: found again by its identity, locked, entered by nobody else.

    manifest           which segments there are, and where each ends
    segments/12.seg    frames
    reserve            room kept back for merging on a full disk

Files are opened by name beneath open directories; nothing here follows a symlink. The path above the directory is the
administrator's, and may hold some.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import Self

from i2_store_cdp.system import sync, write_at
from i2core.api import Code, StopRule
from i2core.posix.identity import Standing
from i2core.posix.locks import lock
from i2core.posix.opening import READABLE
from i2core.posix.path_text import shown

_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_SEGMENT = re.compile(r"([0-9]{1,19})\.seg")
_SEGMENTS = b"segments"


class Home:
    """The open directory."""

    def __init__(self, path: bytes, fd: int) -> None:
        """Takes `fd` over."""
        self.path = path
        self.fd = fd
        self._segments_fd = -1
        found = os.fstat(fd)
        self._key = found.st_dev, found.st_ino

    @classmethod
    def open(cls, path: bytes, known: str) -> Self:
        """Opens the directory, makes it when it is new, and locks it.

        Raises:
            StopRule: it is not the known one, not ours, or locked.
            OSError: it cannot be opened or made.
        """
        home = cls(path, _opened(path, known))
        try:
            home._check_owner()
            home._check_known(known)
            home._lock()
            with suppress(FileExistsError):
                os.mkdir(_SEGMENTS, 0o700, dir_fd=home.fd)
                sync(home.fd)
            home._segments_fd = os.open(_SEGMENTS, READABLE, dir_fd=home.fd)
        except BaseException:
            home.close()
            raise
        return home

    def close(self) -> None:
        """Lets the directory and its lock go."""
        for fd in (self.fd, self._segments_fd):
            if fd >= 0:
                os.close(fd)

    @property
    def identity(self) -> str:
        """For `JournalContext.known`."""
        return Standing.of(self.fd).encode()

    def check(self) -> None:
        """Raises StopRule when the path does not lead here any more: then nothing may be written."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            raise _gone(self.path) from None
        if (found.st_dev, found.st_ino) != self._key:
            raise _gone(self.path)

    def read(self, name: bytes) -> bytes:
        """A whole file. Raises OSError."""
        fd = os.open(name, os.O_RDONLY | _FILE, dir_fd=self.fd)
        try:
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def replace(self, name: bytes, content: bytes) -> None:
        """Gives a file other content, in one step and durably.

        Raises:
            OSError: nothing has changed.
            SyncFailed: it may be the old one or the new one after a power cut.
        """
        new = name + b".new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FILE, 0o600, dir_fd=self.fd)
        try:
            write_at(fd, [content], 0)
            sync(fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(new, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        sync(self.fd)

    def open_file(self, name: bytes, flags: int) -> int:
        """A file of the directory itself. Raises OSError."""
        return os.open(name, flags | _FILE, 0o600, dir_fd=self.fd)

    def remove_file(self, name: bytes) -> None:
        """Removes a file of the directory itself; a missing one is no error."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def open_segment(self, number: int, flags: int = os.O_RDONLY) -> int:
        """A segment's file. Raises OSError; what is no plain file counts as missing."""
        fd = os.open(segment_name(number), flags | _FILE, 0o600, dir_fd=self._segments_fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(segment_name(number))
        return fd

    def segment_size(self, number: int) -> int:
        """Bytes of a segment's file; -1 when it is missing."""
        try:
            return os.lstat(segment_name(number), dir_fd=self._segments_fd).st_size
        except FileNotFoundError:
            return -1

    def new_segment(self, number: int) -> int:
        """A new file, open for reading and writing. One that is there is nobody's: the manifest does not name it."""
        return self.open_segment(number, os.O_RDWR | os.O_CREAT | os.O_TRUNC)

    def remove_segment(self, number: int) -> None:
        """Removes a segment's file; a missing one is no error."""
        with suppress(FileNotFoundError):
            os.unlink(segment_name(number), dir_fd=self._segments_fd)

    def segment_numbers(self) -> list[int]:
        """All that have a file."""
        found = (_SEGMENT.fullmatch(name) for name in os.listdir(self._segments_fd))
        return [int(match[1]) for match in found if match]

    def sync_segments(self) -> None:
        """Makes the names of segments durable."""
        sync(self._segments_fd)

    def _check_owner(self) -> None:
        found = os.fstat(self.fd)
        if found.st_uid != os.geteuid():
            raise StopRule(
                "the CDP directory belongs to another user",
                code=Code.ILLEGAL_PATH,
                obj=shown(self.path),
                next_step="choose a directory that the node may make itself",
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(self.fd, 0o700)

    def _lock(self) -> None:
        if not lock(self.fd, alone=True):
            cause = "another process has this CDP directory open"
            raise StopRule(cause, code=Code.DUPLICATE_TASK, obj=shown(self.path), next_step="stop that one first")

    def _check_known(self, known: str) -> None:
        if known and not Standing.decode(known).here.is_same(Standing.of(self.fd).here):
            raise _gone(self.path)


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"{number}.seg"


def _opened(path: bytes, known: str) -> int:
    try:
        return os.open(path, READABLE)
    except FileNotFoundError:
        if known:
            raise _gone(path) from None
    above, name = os.path.split(path.rstrip(b"/"))
    above_fd = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.mkdir(name, 0o700, dir_fd=above_fd)
        sync(above_fd)
        return os.open(name, READABLE, dir_fd=above_fd)
    finally:
        os.close(above_fd)


def _gone(path: bytes) -> StopRule:
    return StopRule(
        "the CDP directory is not there, or another directory has its name",
        code=Code.CDP_DESCRIPTION_READ,
        obj=shown(path),
        next_step="mount its disk, or put it back, then start the rule",
    )
