"""The directories in which objects are kept whole that are gone from the replica: one for each file system that the
roots lie on, so that an object goes there by one rename(2), however large it is.

    <allowed>/.i2-history-<32 hex digits>/   0700
        4711                                 an object, by its number in the history
        copy-<32 hex digits>                 one that is being copied to this file system

It lies beside the roots: in the topmost directory from which rename(2) reaches the root, and in which this process may
make it, but not above the allowed directory. Where the root is a mount point, or the allowed directory itself, that is
the root. Its name cannot be guessed and is found again after a restart (`Names`), only this process's user can enter
it, and it stays when it is empty. Unlike the private directory it is never removed when somebody else has its name: the
past of the replica lies there.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.present.objects import Volume
from i2_sink_fs.roots import Roots
from i2core.api import Code, StopRule
from i2core.posix.errnos import GONE
from i2core.posix.opening import DIRECTORY

_NOT_HERE = (errno.EACCES, errno.EPERM, errno.EROFS)


class _Store(NamedTuple):
    """An open store, and where it is: beneath the allowed directory of a root."""

    fd: int
    root: int
    above: bytes
    name: bytes


class Stores:
    """The stores of one replica. One that is missing is made when the first object is kept there. Any thread may ask;
    one thread at a time makes stores."""

    def __init__(self, roots: Roots, kept: Kept) -> None:
        """Finds those that are there.

        Raises:
            OSError: somebody else has the name of one (EACCES), or it cannot be opened.
            StopRule: a root is gone.
        """
        self._roots = roots
        self._kept = kept
        self._names = kept.names.store
        self.hidden = frozenset((*self._names, kept.names.copy, *kept.names.private))
        """Names that are no part of the replica and of what is kept, wherever they are."""
        self._guard = threading.Lock()
        """Held while a store is looked for."""
        self._stores: dict[Volume, _Store] = {}
        self._serving: dict[int, Directory] = {}
        self._first: dict[Volume, int] = {}
        """The first root on each file system."""
        for root in range(len(roots)):
            self._first.setdefault(self._volume(root), root)
        self.all()

    def all(self) -> list[int]:
        """All that are there, open. Another one than this, of the replica's sink, may have made one meanwhile."""
        return [fd for volume in self._first if (fd := self.on(volume)) is not None]

    def on(self, volume: Volume) -> int | None:
        """The one on this file system, open; None: there is none, or none yet.

        Raises:
            OSError, StopRule: as `__init__`.
        """
        store = self._stores.get(volume)
        if store is None and volume in self._first:
            with self._guard:
                store = self._stores.get(volume) or self._find(self._first[volume], volume)
                if store is not None:
                    self._stores[volume] = store
        return None if store is None else store.fd

    def serving(self, directory: Directory) -> Directory:
        """The one that serves this directory, if no mount lies in between: then rename(2) raises EXDEV, and the one of
        its `Volume` is the right one. Found once for each device.

        Raises:
            OSError, StopRule: as `make`.
        """
        serving = self._serving.get(directory.device)
        if serving is None:
            serving = self._serving[directory.device] = self.exactly(directory)
        return serving

    def exactly(self, directory: Directory) -> Directory:
        """The one on the file system of this directory, as it is mounted there; as `make`."""
        fd = self.make(Volume.of(directory.fd))
        return Directory(fd, os.fstat(fd).st_dev, True)

    def make(self, volume: Volume) -> int:
        """The one on this file system, made if it is missing. No root may be there: then the one of the first root.

        Raises:
            OSError: it cannot be made.
            StopRule: the root is gone.
        """
        root = self._first.get(volume, 0)
        home = self._volume(root)
        fd = self.on(home)
        if fd is None:
            self._make(root, home)
            fd = self.on(home)
        if fd is None:
            raise PermissionError(errno.EACCES, "another process removes the history's store", self._names[root])
        return fd

    def verify(self) -> None:
        """Checks that all are where they were.

        Raises:
            StopRule: one is not: it was moved, or its disk is not mounted.
        """
        for store in list(self._stores.values()):  # another thread may find one
            try:
                above = self._roots.open_beside(store.root, store.above)
            except OSError as error:
                if error.errno not in GONE:
                    raise
                raise _gone(store) from error
            try:
                found = os.stat(store.name, dir_fd=above, follow_symlinks=False)
            except FileNotFoundError as error:
                raise _gone(store) from error
            finally:
                os.close(above)
            if not os.path.samestat(found, os.fstat(store.fd)):
                raise _gone(store)

    def close(self) -> None:
        """Closes all."""
        while self._stores:
            os.close(self._stores.popitem()[1].fd)

    def _find(self, root: int, volume: Volume) -> _Store | None:
        found = (self._opened(root, above) for above in self._above(root, volume))
        return next((store for store in found if store is not None), None)

    def _volume(self, root: int) -> Volume:
        fd = self._roots.open(root)
        try:
            return Volume.of(fd)
        finally:
            os.close(fd)

    def _make(self, root: int, volume: Volume) -> None:
        refused: OSError | None = None
        for above in self._above(root, volume):
            fd = self._roots.open_beside(root, above)
            try:
                with self._kept.unnoticed(fd):
                    os.mkdir(self._names[root], 0o700, dir_fd=fd)
                return
            except FileExistsError:
                return  # a sink of the replica has just made it
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                refused = refused or error
            finally:
                os.close(fd)
        assert refused is not None
        raise refused

    def _above(self, root: int, volume: Volume) -> Iterator[bytes]:
        """Where the store can be, the topmost directory first: the paths beneath the allowed directory."""
        path = self._roots.beneath_allowed(root)
        paths = [path]
        while path:
            path = path.rpartition(b"/")[0]
            fd = self._roots.open_beside(root, path)
            try:
                if Volume.of(fd) != volume:
                    break
            finally:
                os.close(fd)
            paths.append(path)
        return reversed(paths)

    def _opened(self, root: int, above: bytes) -> _Store | None:
        """The store in this directory; None when there is none."""
        name = self._names[root]
        fd = self._roots.open_beside(root, above)
        try:
            store = os.open(name, DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)
        if not self._is_ours(root, store):
            os.close(store)
            raise PermissionError(errno.EACCES, "another user has made what has the name of the history's store", name)
        return _Store(store, root, above, name)

    def _is_ours(self, root: int, fd: int) -> bool:
        with Directories(self._roots, self._kept.names.reserved) as directories:
            return self._kept.traits(root, directories.find(root, b"")).is_private(os.fstat(fd))


def _gone(store: _Store) -> StopRule:
    return StopRule(
        "the directory with the history's objects is not the one that was used before",
        code=Code.REPLICA_GONE,
        obj=os.fsdecode(store.name),
        next_step=Code.REPLICA_GONE.text.next_en,
    )
