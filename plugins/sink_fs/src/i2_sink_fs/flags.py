"""Inode flags and project ids of the replica, for a rule that carries them.

An immutable or append-only object (a *pin*, `PINS`) can be neither changed nor renamed, linked or removed; the same
holds for the entries of such a directory, even for root and for this sink. So pins are removed while a record is
carried out, and set again at its end. In between the object is held open, since a rename may give it another name.

    record ──▶ EPERM ──▶ `lift` (object, directory) ──▶ once more ──▶ `settle` (what the record wants) ──▶ `restore`

A crash in between leaves a pin unset. The record is repeated, and the record that sets the attributes follows it; if
none follows, the next compare finds the difference.

Which flags an object can have depends on the file system and on this process's capabilities. Both are found out once,
with a test object (`probe`). Flags that cannot be set are reported once and not compared, like times that a file system
cannot hold: otherwise each mirror would send them again, without effect."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence

from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import proc_path
from i2core.api.inode_flags import (
    CARRIED,
    EVERY_FLAG,
    LETTERS,
    NOCOW,
    OF_DIRECTORIES,
    PINS,
    PROJECT,
    UNREAD,
    flags_of,
    letters_of,
    may_have_flags,
)
from i2core.posix.opening import READABLE
from i2core.posix.syscalls import inode_flags, project_id, set_inode_flags, set_project_id

_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_UNSUPPORTED = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL)
_probing = threading.Lock()
"""Mirror and replication have a sink each, on the same directories."""


class Flags:
    """Sets flags, and removes pins that prevent a record. If it is not `on`, it changes nothing."""

    def __init__(self, *, on: bool, unsupported: Callable[[str, str], None]) -> None:
        """`unsupported`: called with a kind and a place that cannot be set."""
        self.on = on
        self._unsupported = unsupported
        self._held: dict[int, int] = {}
        """The flags that a file system can hold, as a mask, by device."""
        self._pins: dict[tuple[int, int], tuple[int, int]] = {}
        """By device and inode: an open descriptor, and the pins that the object gets at the end of the record."""
        self._projects: list[tuple[int, int]] = []
        """The same for projects: of objects that got another project in order to be moved."""

    def held(self, device: int) -> int:
        """The flags that the file system with this device number can hold, as a mask; all of them until `learn`."""
        return self._held.get(device, EVERY_FLAG)

    def learn(self, directory: Directory, name: bytes) -> None:
        """Finds out what the file system of a directory can hold. `name`: see `probe`.

        Raises:
            OSError: that cannot be found out now.
        """
        self._held[directory.device] = probe(directory.fd, name)

    # -------------------------------------------------------------------------------------- what a record wants

    def begin(self, fd: int, wanted: int) -> None:
        """Sets the flags that a file can only get while it is empty."""
        if not self.on or wanted == UNREAD or not flags_of(wanted & self.held(os.fstat(fd).st_dev)) & NOCOW:
            return
        with contextlib.suppress(OSError):  # `settle` reports it
            set_inode_flags(fd, inode_flags(fd) | NOCOW)

    def settle(self, target: int | bytes, found: os.stat_result, wanted: int, place: str) -> None:
        """Sets the flags and the project of an object, now `found`. Its pins are set last, by `restore`; pins that it
        has now are removed, because its other attributes are still to be set. `target` is an open descriptor or the
        `proc_path` of one.

        Raises:
            OSError: for a reason other than the rights of this process and the limits of the file system.
        """
        if not self.on or not may_have_flags(found.st_mode):
            return
        try:
            fd = os.dup(target) if isinstance(target, int) else os.open(target, _OPEN)
        except PermissionError:
            self._unsupported("inode flags", place)
            return
        try:
            raw, held = inode_flags(fd), self.held(found.st_dev)
            if wanted == UNREAD:
                held = 0
            self._name_missing(wanted, held, place)
            keys = CARRIED & flags_of(held)
            goal = raw & ~keys | flags_of(wanted) & keys
            self._set(fd, raw, goal & ~PINS, place)
            if held & PROJECT and project_id(fd) != wanted & PROJECT:
                self._set_project(fd, wanted & PROJECT, place)
            self._note(fd, found, goal & PINS)
        finally:
            os.close(fd)

    def _name_missing(self, wanted: int, held: int, place: str) -> None:
        missing = 0 if wanted == UNREAD else wanted & ~held
        for letter in letters_of(flags_of(missing)):
            self._unsupported(f"inode flag +{letter}", place)
        if missing & PROJECT:
            self._unsupported("project ids", place)

    def _set(self, fd: int, raw: int, flags: int, place: str) -> None:
        if flags == raw:
            return
        try:
            set_inode_flags(fd, flags)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            changed = letters_of((raw ^ flags) & ~PINS)
            self._unsupported(f"inode flags {changed or letters_of(raw ^ flags)}", place)
            if raw & PINS and changed:
                self._set(fd, raw, raw & ~PINS, place)

    def _set_project(self, fd: int, project: int, place: str) -> None:
        try:
            set_project_id(fd, project)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._unsupported("project ids", place)

    # -------------------------------------------------------------------------------------- what is in the way

    def lift(self, dir_fd: int, name: bytes) -> bool:
        """Removes the pins of an object in an open directory (of the directory itself: ``b"."``) until `restore`.

        Returns: True when it had any, so that another try makes sense.
        """
        if not self.on:
            return False
        lifted = _lift(dir_fd, name)
        if lifted is None:
            return False
        fd, _ = lifted
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) in self._pins:
            os.close(fd)
        else:
            self._pins[status.st_dev, status.st_ino] = lifted
        return True

    @contextlib.contextmanager
    def lifted(self, dir_fd: int, *names: bytes) -> Iterator[bool]:
        """Within the block, an open directory and these names in it have no pins; True when they had any. For steps
        that a record may take several times, or that belong to no record."""
        found = [each for name in (b".", *names) if (each := _lift(dir_fd, name)) is not None] if self.on else []
        with _pinned_after(found):
            yield bool(found)

    @contextlib.contextmanager
    def lifted_from(self, *fds: int) -> Iterator[None]:
        """Within the block, these open objects, which need not be open for reading (O_PATH), have no pins."""
        found = [each for fd in fds if (each := _lift_behind(fd)) is not None] if self.on else []
        with _pinned_after(found):
            yield

    def adopt(self, dir_fd: int, name: bytes, into_fd: int) -> bool:
        """Gives an object the project of the directory `into_fd` until `restore`: a directory whose project is
        inherited accepts no object of another one (EXDEV). The object may be older than the inheritance.

        Returns: True when that changed anything, so that another try makes sense.
        """
        found = (_opened(dir_fd, name), _opened(into_fd, b".")) if self.on else (None, None)
        try:
            fd, into = found
            if fd is None or into is None or (before := project_id(fd)) == (project := project_id(into)):
                return False
            set_project_id(fd, project)
            self._projects.append((os.dup(fd), before))
        except OSError:
            return False  # the record then fails as without this step
        finally:
            for each in found:
                if each is not None:
                    os.close(each)
        return True

    def restore(self) -> None:
        """The record is done: each object gets its project and its pins.

        Raises:
            OSError: one could not be set; the others are.
        """
        if not self._pins and not self._projects:
            return
        steps = [(set_project_id, *each) for each in self._projects] + [(_pin, *each) for each in self._pins.values()]
        self._projects, self._pins = [], {}
        late: OSError | None = None
        for step, fd, value in steps:
            try:
                step(fd, value)
            except OSError as error:
                late = error
            finally:
                os.close(fd)
        if late is not None:
            raise late

    def _note(self, fd: int, found: os.stat_result, pins: int) -> None:
        before = self._pins.pop((found.st_dev, found.st_ino), None)
        if before is not None:
            os.close(before[0])
        if pins:
            self._pins[found.st_dev, found.st_ino] = (os.dup(fd), pins)


def _opened(dir_fd: int, name: bytes) -> int | None:
    """A file or directory, for its flags; None for anything else, or nothing."""
    try:
        if may_have_flags(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            return os.open(name, _OPEN | os.O_NOFOLLOW, dir_fd=dir_fd)
    except OSError:
        pass
    return None


def _opened_behind(path_fd: int) -> int | None:
    """As `_opened`, of an object that is open with O_PATH."""
    try:
        return os.open(proc_path(path_fd), _OPEN) if may_have_flags(os.fstat(path_fd).st_mode) else None
    except OSError:
        return None


@contextlib.contextmanager
def _pinned_after(found: Sequence[tuple[int, int]]) -> Iterator[None]:
    """At the end of the block, these descriptors get their pins again, and are closed."""
    try:
        yield
    finally:
        for fd, pins in found:
            with contextlib.suppress(OSError):
                _pin(fd, pins)
            os.close(fd)


def _lift(dir_fd: int, name: bytes) -> tuple[int, int] | None:
    """Removes the pins of an object: an open descriptor and the removed pins; None when it had none."""
    return _unpinned(_opened(dir_fd, name))


def _lift_behind(path_fd: int) -> tuple[int, int] | None:
    """As `_lift`, of an object that is open with O_PATH."""
    return _unpinned(_opened_behind(path_fd))


def _unpinned(fd: int | None) -> tuple[int, int] | None:
    if fd is None:
        return None
    raw = inode_flags(fd)
    try:
        if raw & PINS:
            set_inode_flags(fd, raw & ~PINS)
            return fd, raw & PINS
    except OSError:
        pass  # no permission: the record then fails as without this step
    os.close(fd)
    return None


def _pin(fd: int, pins: int) -> None:
    if pins and os.fstat(fd).st_nlink:  # else it is gone
        set_inode_flags(fd, inode_flags(fd) | pins)


# ------------------------------------------------------------------------------------------ what a file system holds


def probe(directory_fd: int, name: bytes) -> int:
    """The flags that the file system of an open directory can hold and this process may set, as a mask. `name` is the
    sink's own directory there; if it is missing, it is made for the test.

    Raises:
        OSError: that cannot be found out now.
    """
    with _probing:
        made = _make(directory_fd, name)
        try:
            fd = os.open(name, READABLE, dir_fd=directory_fd)
            try:
                return _probe_within(fd)
            finally:
                os.close(fd)
        finally:
            if made:
                with contextlib.suppress(OSError):  # another sink of this process has begun to use it
                    os.rmdir(name, dir_fd=directory_fd)


def _make(dir_fd: int, name: bytes) -> bool:
    try:
        os.mkdir(name, 0o700, dir_fd=dir_fd)
    except FileExistsError:
        return False
    return True


def _probe_within(dir_fd: int) -> int:
    try:
        fd = os.open(b".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        return 0  # whatever has flags has files without a name
    try:
        held = (_held_by(dir_fd, OF_DIRECTORIES) | _held_by(fd, CARRIED & ~OF_DIRECTORIES)) << 32
        with contextlib.suppress(OSError):
            set_project_id(fd, 1)
            held |= PROJECT if project_id(fd) == 1 else 0
        return held
    finally:
        os.close(fd)


def _held_by(fd: int, flags: int) -> int:
    """Those of the flags that the object takes. A flag that the file system keeps as an extended attribute (compression
    of btrfs) does not count: it is replicated as that attribute already, and the two would undo each other."""
    before, attributes, held = inode_flags(fd), _attributes(fd), 0
    for flag in LETTERS:
        if flag & flags:
            with contextlib.suppress(OSError):
                set_inode_flags(fd, before | flag)
                if inode_flags(fd) & flag and _attributes(fd) == attributes:
                    held |= flag
            with contextlib.suppress(OSError):
                set_inode_flags(fd, before)
    return held


def _attributes(fd: int) -> list[str]:
    try:
        return os.listxattr(fd)
    except OSError:
        return []
