"""The contracts `Present` and `Replica` for plain files. All calls block."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from i2_sink_fs.content import punch
from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.locks import Unlocked
from i2_sink_fs.paths import proc_path
from i2_sink_fs.present.copying import copy_durably
from i2_sink_fs.present.folders import Folder, KeptWhole, Plain, Staged, Top
from i2_sink_fs.present.handles import FIXED, Handles
from i2_sink_fs.present.objects import Spot, Volume, facts, open_content, opened, set_meta
from i2_sink_fs.present.stores import Stores
from i2_sink_fs.roots import Roots
from i2_sink_fs.system import rename_new
from i2core.api import SinkContext
from i2core.api.content import extents
from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle, Identity
from i2core.api.records import Buffer, Meta
from i2core.posix.durable import write_all
from i2core.posix.file import LocalContent
from i2core.posix.removal import remove

_FIXED_META = Meta(0o040700, 0, 0, 0, ())


class FsPresent:
    """`Present` for plain files. Questions may come from any thread, also while a sink of these roots applies a batch.

    What is open holds a descriptor; when this process may have no more of them, OSError (EMFILE) is raised, which
    passes. All calls raise StopRule where a root is not the directory that it was."""

    def __init__(self, context: SinkContext, roots: Roots) -> None:
        """`context`: that of the sink; its owner holds the lock of the targets.

        Raises:
            OSError: a root or a store cannot be opened, or somebody else has the name of a store.
            StopRule: a root is gone.
        """
        self._roots = roots
        self._kept = Kept(context, roots.paths)
        self._handles = Handles()
        self._stores = Stores(roots, self._kept)
        self._fixed = {TOP: Top(roots), STORE: KeptWhole(self._stores), STAGING: Staged(roots, self._kept)}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all that is open; makes nothing durable."""
        self._handles.close()
        self._stores.close()
        self._kept.volumes.close()
        self._kept.close()

    @property
    def open_handles(self) -> int:
        """How many objects are open."""
        return len(self._handles)

    def _folder(self, directory: Handle) -> Folder:
        fixed = self._fixed.get(directory)
        return fixed or Plain(self._handles.fd(directory), self._stores.hidden)

    # ------------------------------------------------------------------------------------------- questions

    def directory(self, oid: int) -> Handle:
        """As `Present.directory`."""
        if oid not in FIXED:
            raise ValueError(f"{oid} is none of the fixed directories")
        return Handle(oid)

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        """As `Present.child`."""
        self._handles.check_room()
        fd = self._folder(directory).open(name)
        return None if fd is None else self._handles.add(fd)

    def names(self, directory: Handle) -> Iterable[bytes]:
        """As `Present.names`; read bit by bit."""
        return self._folder(directory).names()

    def facts(self, handle: Handle) -> Facts:
        """As `Present.facts`."""
        if handle in FIXED:
            return Facts(Identity(0, handle, 0), _FIXED_META, 0)
        return facts(self._handles.fd(handle), self._kept)

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        """As `Present.extents`. Where the file system does not tell of holes, everything is data."""
        fd = open_content(self._handles.fd(handle))
        try:
            for start, end, data in extents(LocalContent(fd), lo, min(hi, os.fstat(fd).st_size)):
                yield Extent(start, end, not data)
        finally:
            os.close(fd)

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        """As `Present.read`."""
        fd = open_content(self._handles.fd(handle))
        try:
            hi = min(hi, os.fstat(fd).st_size)  # as much memory is taken as is asked for
            return bytes(LocalContent(fd).read(lo, hi - lo)) if lo < hi else b""
        finally:
            os.close(fd)

    def release(self, handle: Handle) -> None:
        """As `Present.release`."""
        self._handles.release(handle)


class FsReplica(FsPresent):
    """`Replica` for plain files. For one thread at a time, while no sink applies a batch.

    Pins (inode flags that forbid changes) are taken off for one change, as a sink does for a record."""

    def __init__(self, context: SinkContext, roots: Roots) -> None:
        super().__init__(context, roots)
        with Directories(roots, self._kept.names.reserved) as directories:
            for root in range(len(roots)):
                top = directories.find(root, b"")
                self._kept.volumes.hold(top.fd, top.device)
                self._kept.traits(root, top)  # learns which flags and times its file system can hold

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        """As `Present.child`. A file system that is met is held, so that `flush` sees errors of writing to it."""
        found = super().child(directory, name)
        if found is not None:
            self._hold(self._handles.fd(found))
        return found

    def _hold(self, *fds: int) -> set[int]:
        """Holds the file systems of these open objects; the numbers of their devices."""
        found = [(fd, os.fstat(fd)) for fd in fds]
        for fd, status in found:
            if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                self._kept.volumes.hold(fd, status.st_dev)
        return {status.st_dev for _, status in found}

    # ------------------------------------------------------------------------------------------- names

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        """As `Replica.move`. To another file system the object is copied with all beneath it, made durable, and then
        removed: so it becomes another object, with another identity. Its content keeps its holes, and several names of
        a file within it stay names of one file; names outside of it stay with the old file."""
        with self._folder(directory).spot(name) as spot:
            fd = None if spot is None else opened(spot)
            if spot is None or fd is None:
                self._check_moved(target, name, new)
                return
            try:
                with self._folder(target).room(new, Volume.of(fd)) as goal, self._changing(spot.fd, goal.fd, fd):
                    if not _renamed(spot, goal):
                        self._copy(fd, goal)
                        remove(*spot, self._kept.flags)
            finally:
                os.close(fd)

    def _check_moved(self, target: Handle, name: bytes, new: bytes) -> None:
        """Nothing has the old name: all is well when the object was moved before."""
        there = self._folder(target).open(new)
        if there is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        os.close(there)

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        """As `Replica.link`. On another file system, the name leads to a copy."""
        fd = self._handles.fd(handle)
        with self._folder(target).room(new, Volume.of(fd)) as goal, self._changing(goal.fd, fd):
            try:
                os.link(proc_path(fd), goal.name, dst_dir_fd=goal.fd)
            except FileExistsError:
                if not os.path.samestat(os.stat(goal.name, dir_fd=goal.fd, follow_symlinks=False), os.fstat(fd)):
                    raise
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._copy(fd, goal)

    def remove(self, directory: Handle, name: bytes) -> None:
        """As `Replica.remove`."""
        with self._folder(directory).spot(name) as spot:
            if spot is not None:
                with self._changing(spot.fd):
                    remove(*spot, self._kept.flags)

    def _copy(self, fd: int, goal: Spot) -> None:
        self._hold(goal.fd)
        store = self._stores.on(Volume.of(goal.fd))
        copy_durably(fd, goal, goal.fd if store is None else store, self._kept)

    # ------------------------------------------------------------------------------------------- content, attributes

    def truncate(self, handle: Handle, size: int) -> None:
        """As `Replica.truncate`."""
        with self._writing(handle) as fd:
            os.ftruncate(fd, size)

    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        """As `Replica.write`."""
        with self._writing(handle) as fd:
            write_all(fd, data, lo)

    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        """As `Replica.punch`. Where the file system makes no holes, zeros are written."""
        with self._writing(handle) as fd:
            punch(fd, lo, hi - lo)

    @contextmanager
    def _writing(self, handle: Handle) -> Iterator[int]:
        path_fd = self._handles.fd(handle)
        with self._changing(path_fd):
            fd = open_content(path_fd, write=True)
            try:
                yield fd
            finally:
                os.close(fd)

    def set_meta(self, handle: Handle, meta: Meta) -> None:
        """As `Replica.set_meta`. What this process or file system cannot set is said once and left out, as a sink
        does."""
        fd = self._handles.fd(handle)
        set_meta(fd, meta, self._kept)
        self._kept.volumes.changed({os.fstat(fd).st_dev})

    @contextmanager
    def _changing(self, *fds: int) -> Iterator[None]:
        """Within the block, these open objects can be changed; their file systems are noted for the next flush."""
        unlocked, devices = Unlocked(), self._hold(*fds)
        with self._kept.flags.lifted_from(*fds):
            try:
                for fd in fds if os.geteuid() else ():
                    unlocked.unlock(fd)
                yield
            finally:
                unlocked.restore()
                self._kept.volumes.changed(devices)

    def flush(self) -> None:
        """As `Replica.flush`.

        Raises:
            StopRule: a file system could not write what it had promised, or a root or a store is not where it was.
        """
        self._kept.volumes.sync(self._kept.volumes.take())
        # After the sync, which also succeeds on a file system that was unmounted.
        self._roots.verify()
        self._stores.verify()


def _renamed(spot: Spot, goal: Spot) -> bool:
    """Renames; False when the goal is on another file system.

    Raises:
        FileExistsError: something has the new name.
    """
    try:
        rename_new(*spot, *goal)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True
