"""Turns records into system calls.

Each kind has one method. All of them may run again after a crash: an object that is already as the record wants it is
left or made once more, a source that a rename took away is not missed. One thing a replica of plain files cannot know:
that a name which a repeated record speaks of got another object since (``RENAME a b``, ``CREATE a``, told twice, moves
the second ``a``). Whoever repeats records across such a use compares the names in them afterwards.

What is new is made under its own name; what
replaces something is made beside it and renamed over it: a reader sees the old object or the new one, nothing between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from types import TracebackType
from typing import Self

from i2_sink_fs.attributes import Attributes, NoRoomForAttribute
from i2_sink_fs.content import punch, write_all
from i2_sink_fs.locks import Unlocked
from i2_sink_fs.outcome import Drift, judge
from i2_sink_fs.paths import READABLE, Directories, Directory, IllegalPath, passing_name, proc_path, split, staging_name
from i2_sink_fs.removal import clear, remove
from i2_sink_fs.volumes import Volumes
from i2core.api import Applied, Batch, Failure, Kind, Meta, Place, Record

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: an outsider's FIFO in the way must not hold the rule up. A staging file is read by nobody else.
_IN_PLACE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OBJECT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NODES = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
_OTHER_TYPE = (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST)
_WITHIN_FILE = (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE)
_EXPECTED = (OSError, Drift, IllegalPath, NoRoomForAttribute, ValueError, OverflowError)
"""What a record can run into; ValueError and OverflowError are numbers that no system call takes."""


class Applier:
    """Applies one batch; holds the fds of that batch. A context manager: closes them."""

    def __init__(
        self,
        directories: Directories,
        attributes: Attributes,
        volumes: Volumes,
        staged: set[Place],
        applied: Callable[[int], None],
    ) -> None:
        """`staged`: the files that are being staged, as far as this sink saw them begin; kept between batches.
        `applied`: told the seq of each record that was applied."""
        self._applied = applied
        self._directories = directories
        self._attributes = attributes
        self._volumes = volumes
        self._staged = staged
        self._devices: set[int] = set()
        self._unlocked = Unlocked()
        self._file: int = -1
        self._file_key: tuple[int, bytes, bool] | None = None
        self._late: Exception | None = None
        self._methods: dict[Kind, Callable[[Record], None]] = {
            Kind.CREATE: self._create,
            Kind.STAGE: self._stage,
            Kind.WRITE: self._write,
            Kind.PUNCH: self._punch,
            Kind.TRUNCATE: self._truncate,
            Kind.PUBLISH: self._publish,
            Kind.MKDIR: self._mkdir,
            Kind.SYMLINK: self._symlink,
            Kind.MKNOD: self._mknod,
            Kind.LINK: self._link,
            Kind.RENAME: self._rename,
            Kind.REMOVE: self._remove,
            Kind.SETATTR: self._setattr,
            Kind.BARRIER: _nothing,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._volumes.changed(self._devices)
        self._leave_file()
        self._unlocked.restore()
        self._directories.close()

    def apply(self, batch: Batch) -> Applied:
        """All records in order.

        Raises:
            StopRule: see `Sink.apply`.
        """
        failures: list[Failure] = []
        methods = self._methods
        for seq, record in enumerate(batch.records, batch.first_seq):
            try:
                if self._file_key is not None and record.kind not in _WITHIN_FILE:
                    self._leave_file()
                self._directories.trim()
                try:
                    methods[record.kind](record)
                except PermissionError:
                    if not self._open_up(record):
                        raise
                    methods[record.kind](record)
                if self._late is not None:
                    late, self._late = self._late, None
                    raise late
            except _EXPECTED as error:
                failures.append(judge(error, seq, Place(record.root, record.path), self._directories.shown))
            self._applied(seq)
        return Applied(batch.last_seq, tuple(failures))

    def sweep(self, record: Record) -> None:
        """Removes what a killed process may have left of this record, which it had begun: the first that is sent again.
        Where the object goes under a name that is free by now, nothing else would."""
        with contextlib.suppress(OSError, IllegalPath):
            directory, name = self._locate(record.root, record.path)
            _unlink_missing_ok(directory.fd, passing_name(name))

    # -------------------------------------------------------------------------------------- whole objects

    def _create(self, record: Record) -> None:
        if self._install(record, self._make_file):
            self._drop_stale_staging(record)

    def _make_file(self, directory: Directory, name: bytes, record: Record) -> None:
        meta = record.meta
        fd = os.open(name, _NEW_FILE, 0o600 if meta is None else meta.mode & 0o777, dir_fd=directory.fd)
        try:
            if record.data:
                try:
                    write_all(fd, record.data, 0)
                except OSError:
                    os.unlink(name, dir_fd=directory.fd)
                    raise
            if meta is not None:
                self._settle(fd, os.fstat(fd), meta, record, fresh=True, inherits=directory.inherits)
        finally:
            os.close(fd)

    def _mkdir(self, record: Record) -> None:
        meta = record.meta
        if not record.path:
            directory = self._directories.find(record.root, b"")
            self._touch(directory)
            self._settle_object(directory, b".", record, meta, fresh=False)
            return
        directory, name = self._locate(record.root, record.path)
        mode = 0o700 if meta is None else meta.mode & 0o777
        fresh = True
        try:
            os.mkdir(name, mode, dir_fd=directory.fd)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                fresh = False
            else:
                os.unlink(name, dir_fd=directory.fd)
                os.mkdir(name, mode, dir_fd=directory.fd)
        self._settle_object(directory, name, record, meta, fresh=fresh)

    def _symlink(self, record: Record) -> None:
        self._install(record, self._make_symlink)

    def _make_symlink(self, directory: Directory, name: bytes, record: Record) -> None:
        os.symlink(record.other, name, dir_fd=directory.fd)
        self._settle_object(directory, name, record, record.meta, fresh=True)

    def _mknod(self, record: Record) -> None:
        if record.meta is None or stat.S_IFMT(record.meta.mode) not in _NODES:
            raise ValueError("the record names no type of special file")
        self._install(record, self._make_node)

    def _make_node(self, directory: Directory, name: bytes, record: Record) -> None:
        assert record.meta is not None
        mode = record.meta.mode
        try:
            os.mknod(name, mode & ~0o7000, record.size, dir_fd=directory.fd)
        except PermissionError:
            if self._attributes.owns or stat.S_IFMT(mode) not in (stat.S_IFCHR, stat.S_IFBLK):
                raise
            self._attributes.unsupported("devices", os.fsdecode(record.path))
            return
        self._settle_object(directory, name, record, record.meta, fresh=True)

    # -------------------------------------------------------------------------------------- within a file

    def _stage(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        staging = staging_name(name)
        flags = _IN_PLACE | os.O_CREAT | (0 if record.size == 1 else os.O_TRUNC)
        try:
            fd = os.open(staging, flags, 0o600, dir_fd=directory.fd)
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            os.close(fd)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.ELOOP, errno.ENXIO):
                raise
            regular = False
        if not regular:
            remove(directory.fd, staging)
            os.close(os.open(staging, _NEW_FILE, 0o600, dir_fd=directory.fd))
        self._staged.add(Place(record.root, record.path))

    def _write(self, record: Record) -> None:
        write_all(self._open_file(record), record.data, record.offset)

    def _punch(self, record: Record) -> None:
        punch(self._open_file(record), record.offset, record.size)

    def _truncate(self, record: Record) -> None:
        os.ftruncate(self._open_file(record), record.size)

    def _open_file(self, record: Record) -> int:
        """The staging file, or the file itself; kept open for a run of records on one file."""
        key = (record.root, record.path, record.staged)
        if key == self._file_key:
            return self._file
        self._leave_file()
        directory, name = self._locate(record.root, record.path)
        fd = -1
        if record.staged:
            fd = _open_regular(directory.fd, staging_name(name), missing_ok=True)
        if fd < 0:
            fd = _open_regular(directory.fd, name)
        self._file, self._file_key = fd, key
        return fd

    def _leave_file(self) -> None:
        if self._file_key is not None:
            os.close(self._file)
            self._file_key = None

    def _publish(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        staging = staging_name(name)
        fd = _open_regular(directory.fd, staging, missing_ok=True)
        published = fd < 0
        if published:
            fd = _open_regular(directory.fd, name)
        try:
            os.ftruncate(fd, record.size)
            if record.meta is not None:
                self._settle(fd, os.fstat(fd), record.meta, record, fresh=not published, inherits=True)
        finally:
            os.close(fd)
        if not published:
            # When this fails the staging file stays: it is what the repeat publishes.
            self._move(directory.fd, staging, directory, name, Place(record.root, record.path))
        self._staged.discard(Place(record.root, record.path))

    def _drop_stale_staging(self, record: Record) -> None:
        """A file that is replaced or removed by other means has no use for what an earlier run staged of it.

        One that is being staged now has: records on their way must not fall through into the file. It loses this
        protection here, so that a source that gave up without a word leaves nothing for ever.
        """
        place = Place(record.root, record.path)
        if place in self._staged:
            self._staged.discard(place)
        else:
            directory, name = self._locate(record.root, record.path)
            _unlink_missing_ok(directory.fd, staging_name(name))

    # -------------------------------------------------------------------------------------- names

    def _link(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        there = _find(directory, name)
        try:
            source, source_name = self._locate(record.root, record.other)
            old = os.stat(source_name, dir_fd=source.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            if there is None or stat.S_ISDIR(there.st_mode):
                raise Drift("the file to link to is missing here") from error
            return  # linked before, and the first name has gone since
        if stat.S_ISDIR(old.st_mode):
            raise Drift("a directory is here where the source has a file with two names")
        if there is None:
            os.link(source_name, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        elif not os.path.samestat(there, old):
            passing = passing_name(name)
            remove(directory.fd, passing)
            os.link(source_name, passing, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
            self._take_name(directory, passing, name, record)

    def _rename(self, record: Record) -> None:
        old, new = record.path, record.other
        if old == new:
            return
        if old.startswith(new + b"/") or new.startswith(old + b"/"):
            raise Drift("a directory cannot move into itself", new)
        target, new_name = self._locate_new(record)
        there = _find(target, new_name)
        try:
            source, old_name = self._locate(record.root, old)
            found = os.stat(old_name, dir_fd=source.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            if there is None:
                raise Drift("the object to rename is missing here", new) from error
            return  # renamed before
        if there is not None and os.path.samestat(there, found):
            os.unlink(old_name, dir_fd=source.fd)  # rename(2) leaves both names of one file
        else:
            self._move(source.fd, old_name, target, new_name, Place(record.root, new))
        if stat.S_ISDIR(found.st_mode):
            self._directories.forget(record.root, old)

    def _locate_new(self, record: Record) -> tuple[Directory, bytes]:
        try:
            return self._locate(record.root, record.other)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            raise Drift("the directory of the new name is missing here", record.other) from error

    def _remove(self, record: Record) -> None:
        if not record.path and not record.staged:
            self._empty_root(record.root)
            return
        try:
            directory, name = self._locate(record.root, record.path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        if record.staged:
            _unlink_missing_ok(directory.fd, staging_name(name))
            self._staged.discard(Place(record.root, record.path))
            return
        if remove(directory.fd, name):
            self._directories.forget(record.root, record.path)
        self._drop_stale_staging(record)

    def _empty_root(self, root: int) -> None:
        """The source's top directory is gone: the replica's is the administrator's, and stays, empty."""
        directory = self._directories.find(root, b"")
        self._touch(directory)
        fd = os.open(b".", READABLE, dir_fd=directory.fd)
        try:
            clear(fd)
        finally:
            os.close(fd)
        self._directories.close()

    def _setattr(self, record: Record) -> None:
        if record.meta is None:
            raise ValueError("the record holds no attributes")
        if record.path:
            directory, name = self._locate(record.root, record.path)
        else:
            directory, name = self._directories.find(record.root, b""), b"."
            self._touch(directory)
        self._settle_object(directory, name, record, record.meta, fresh=False)

    # -------------------------------------------------------------------------------------- steps of several kinds

    def _locate(self, root: int, path: bytes) -> tuple[Directory, bytes]:
        """The open directory that holds `path`, and the name in it."""
        parent, name = split(path)
        directory = self._directories.find(root, parent)
        if directory.device not in self._devices:
            self._touch(directory)
        return directory, name

    def _open_up(self, record: Record) -> bool:
        """Without root: opens up what the record needs; True when it is worth another try."""
        if self._attributes.owns:
            return False
        root = self._directories.find(record.root, b"")
        changed = self._unlocked.open_up(root.fd, record.path)
        if record.kind in (Kind.RENAME, Kind.LINK):
            changed |= self._unlocked.open_up(root.fd, record.other)
        return changed

    def _touch(self, directory: Directory) -> None:
        self._volumes.watch(directory)
        self._devices.add(directory.device)

    def _install(self, record: Record, make: Callable[[Directory, bytes, Record], None]) -> bool:
        """Makes a new object under its name, or beside what has the name and then in its place (True)."""
        directory, name = self._locate(record.root, record.path)
        try:
            make(directory, name, record)
            return False
        except FileExistsError:
            passing = passing_name(name)
        remove(directory.fd, passing)  # of an earlier try; it may be a second name of a good file: never written to
        make(directory, passing, record)
        self._take_name(directory, passing, name, record)
        return True

    def _take_name(self, directory: Directory, passing: bytes, name: bytes, record: Record) -> None:
        """The object just made takes the record's name; where it cannot, it goes."""
        try:
            self._move(directory.fd, passing, directory, name, Place(record.root, record.path))
        except OSError:
            _unlink_missing_ok(directory.fd, passing)
            raise

    def _move(self, source_fd: int, old: bytes, target: Directory, new: bytes, place: Place) -> None:
        """rename(2) over whatever is at `place`; a directory, or an object of the other type, is removed before."""
        try:
            os.rename(old, new, src_dir_fd=source_fd, dst_dir_fd=target.fd)
        except OSError as error:
            if error.errno not in _OTHER_TYPE:
                raise
            remove(target.fd, new)
            os.rename(old, new, src_dir_fd=source_fd, dst_dir_fd=target.fd)
        self._directories.forget(*place)

    def _settle_object(
        self, directory: Directory, name: bytes, record: Record, meta: Meta | None, *, fresh: bool
    ) -> None:
        """Metadata of what must not be opened for reading or writing."""
        if meta is None:
            return
        fd = os.open(name, _OBJECT, dir_fd=directory.fd)
        try:
            found = os.fstat(fd)
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(meta.mode):
                raise Drift("an object of another type is here")
            self._settle(proc_path(fd), found, meta, record, fresh=fresh, inherits=directory.inherits)
            if meta.xattrs is not None and not fresh and stat.S_ISDIR(found.st_mode):
                self._directories.forget(record.root, record.path)  # its default ACL may be another one now
        finally:
            os.close(fd)

    def _settle(
        self, target: int | bytes, found: os.stat_result, meta: Meta, record: Record, *, fresh: bool, inherits: bool
    ) -> None:
        """Metadata; what fails is told when the record is done: content without an attribute is better than none."""
        try:
            self._attributes.settle(target, found, meta, os.fsdecode(record.path), fresh=fresh, inherits=inherits)
        except (OSError, NoRoomForAttribute, OverflowError) as error:
            self._late = error
        self._unlocked.settled(found)


def _nothing(record: Record) -> None:
    """A barrier: the order of the records is all that it asks for."""


def _find(directory: Directory, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _unlink_missing_ok(dir_fd: int, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)


def _open_regular(dir_fd: int, name: bytes, *, missing_ok: bool = False) -> int:
    """A regular file for writing, -1 when it is missing and that is fine. Looked at before it is opened: opening a
    device can already act on it.

    Raises:
        Drift: something else has the name.
    """
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise Drift("an object of another type is here")
        fd = os.open(name, _IN_PLACE, dir_fd=dir_fd)
    except FileNotFoundError as error:
        if missing_ok:
            return -1
        raise Drift("the file is missing here") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # swapped between the two calls
        os.close(fd)
        raise Drift("an object of another type is here")
    return fd
