"""Makes objects: small files with their content, directories, symlinks, and special files."""

from __future__ import annotations

import os
import stat

from i2_sink_fs.directories import Directories
from i2_sink_fs.keeping import Keeper
from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import Locator
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import proc_path
from i2_sink_fs.placing import Placer
from i2_sink_fs.settling import Settler, bits_for_all
from i2core.api import Record
from i2core.posix.durable import write_all
from i2core.posix.errnos import GONE
from i2core.posix.opening import DIRECTORY, NEW_FILE

_NODES = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)


class ObjectMaker:
    """Carries out the records that make a whole object."""

    def __init__(
        self,
        directories: Directories,
        locator: Locator,
        placer: Placer,
        settler: Settler,
        keeper: Keeper,
        kept: Kept,
    ) -> None:
        self._directories = directories
        self._locator = locator
        self._placer = placer
        self._settler = settler
        self._keeper = keeper
        self._attributes = kept.attributes
        self._flags = kept.flags

    def create(self, record: Record) -> None:
        """`Kind.CREATE`."""
        self._placer.install(record, self._make_file)

    def mkdir(self, record: Record) -> None:
        """`Kind.MKDIR`. A directory that is there already gets the attributes alone, unless a local user may have put
        it there."""
        root, path, meta = record.root, record.path, record.meta
        if not path:
            self._settler.settle_object(self._locator.top(root), b".", record, fresh=False)
            return
        directory, name = self._locator.locate(root, path)
        if self._keeps(directory, name, record):
            self._settler.settle_object(directory, name, record, fresh=False)
            return
        fd = self._new_directory(directory, name, record)
        try:
            self._directories.accept(root, path, fd)
            found = os.fstat(fd)
            self._keeper.note_made(fd, found)
            if meta is not None:
                self._settler.settle(proc_path(fd), found, meta, record, fresh=True)
        finally:
            os.close(fd)

    def _keeps(self, directory: Directory, name: bytes, record: Record) -> bool:
        """True when the directory that has the name stays. One that an administrator has exchanged is the right one
        from now on: the work node compares all beneath it."""
        root, path, meta = record.root, record.path, record.meta
        try:
            fd = os.open(name, DIRECTORY, dir_fd=directory.fd)
        except OSError as error:
            if error.errno in GONE:
                return False
            raise
        try:
            met = self._directories.is_met(root, path)
            right = met and self._directories.is_right(root, path, fd)
            if right or not self._directories.may_be_foreign(root, path, fd):
                if not right:
                    self._directories.accept(root, path, fd)
                return True
            expected = () if meta is None else (meta.uid, os.geteuid())
            return not met and (not self._attributes.owns or os.fstat(fd).st_uid in expected)
        finally:
            os.close(fd)

    def _new_directory(self, directory: Directory, name: bytes, record: Record) -> int:
        """Makes a directory in the place of whatever has the name, and opens it. Where a user could exchange it at
        once, it is made out of sight."""
        mode = 0o700 | bits_for_all(record.meta)
        if self._directories.guarded(record.root, record.path.rpartition(b"/")[0]):
            try:
                os.mkdir(name, mode, dir_fd=directory.fd)
            except FileExistsError:
                self._mkdir_instead(directory, name, mode, record.path)
            return os.open(name, DIRECTORY, dir_fd=directory.fd)
        made: list[int] = []

        def make(home: Directory, passing: bytes) -> None:
            os.mkdir(passing, mode, dir_fd=home.fd)
            made.append(os.open(passing, DIRECTORY, dir_fd=home.fd))

        try:
            self._placer.replace(record, directory, name, make)
            return made.pop()
        finally:
            for fd in made:
                os.close(fd)

    def _mkdir_instead(self, directory: Directory, name: bytes, mode: int, path: bytes) -> None:
        """A directory in the place of what is no directory."""
        if self._keeper.take(directory, name, path) is None:
            os.unlink(name, dir_fd=directory.fd)
        try:
            os.mkdir(name, mode, dir_fd=directory.fd)
        except OSError:
            self._keeper.give_back(directory, name, path)
            raise

    def symlink(self, record: Record) -> None:
        """`Kind.SYMLINK`."""
        self._placer.install(record, self._make_symlink)

    def mknod(self, record: Record) -> None:
        """`Kind.MKNOD`."""
        if record.meta is None or stat.S_IFMT(record.meta.mode) not in _NODES:
            raise ValueError("the record names no type of special file")
        self._placer.install(record, self._make_node)

    def _make_file(self, directory: Directory, name: bytes, record: Record) -> None:
        meta = record.meta
        fd = os.open(name, NEW_FILE, 0o600 | bits_for_all(meta), dir_fd=directory.fd)
        try:
            if meta is not None:
                self._flags.begin(fd, meta.flags)
            if record.data:
                try:
                    write_all(fd, record.data, 0)
                except OSError:
                    os.unlink(name, dir_fd=directory.fd)
                    raise
            if meta is not None:
                self._settler.settle(fd, os.fstat(fd), meta, record, fresh=True)
            if self._keeper.wants_made:
                self._keeper.note_made(fd, os.fstat(fd))
        finally:
            os.close(fd)

    def _make_symlink(self, directory: Directory, name: bytes, record: Record) -> None:
        os.symlink(record.other, name, dir_fd=directory.fd)
        self._settler.settle_object(directory, name, record, fresh=True)

    def _make_node(self, directory: Directory, name: bytes, record: Record) -> None:
        assert record.meta is not None
        mode = record.meta.mode
        try:
            os.mknod(name, stat.S_IFMT(mode) | 0o600 | bits_for_all(record.meta), record.size, dir_fd=directory.fd)
        except PermissionError:
            if self._attributes.owns or stat.S_IFMT(mode) not in (stat.S_IFCHR, stat.S_IFBLK):
                raise
            self._attributes.unsupported("devices", os.fsdecode(record.path))
            return
        self._settler.settle_object(directory, name, record, fresh=True)
