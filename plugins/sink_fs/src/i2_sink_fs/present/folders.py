"""Directories in which names are looked up, given and taken, whatever they are on disk."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.paths import exists, proc_path
from i2_sink_fs.present.objects import Spot, Volume, opened
from i2_sink_fs.present.stores import Stores
from i2_sink_fs.private import Private
from i2_sink_fs.roots import Roots
from i2_sink_fs.staging import Staging
from i2core.api import Place
from i2core.api.records import safe_name, safe_path


class Folder(ABC):
    """One directory, for one call."""

    @abstractmethod
    def names(self) -> Iterable[bytes]:
        """All names in it."""

    @abstractmethod
    def spot(self, name: bytes) -> AbstractContextManager[Spot | None]:
        """Where the name is on disk; None: nothing can have it."""

    @abstractmethod
    def room(self, name: bytes, volume: Volume) -> AbstractContextManager[Spot]:
        """Where an object of this file system gets the name; on the same one if there is such a place.

        Raises:
            OSError: no object can get it.
        """

    def open(self, name: bytes) -> int | None:
        """The object that has the name, by its place alone; None: nothing has it."""
        with self.spot(name) as spot:
            return None if spot is None else opened(spot)


class Plain(Folder):
    """An open directory."""

    def __init__(self, fd: int, hidden: Collection[bytes]) -> None:
        """`hidden`: names of the node's own directories, which are no part of the replica."""
        self._fd = fd
        self._hidden = hidden

    def names(self) -> Iterator[bytes]:
        with os.scandir(proc_path(self._fd)) as listing:
            for entry in listing:
                if entry.name not in self._hidden:
                    yield entry.name

    @contextmanager
    def spot(self, name: bytes) -> Iterator[Spot | None]:
        yield Spot(self._fd, name) if safe_name(name) and name not in self._hidden else None

    @contextmanager
    def room(self, name: bytes, volume: Volume) -> Iterator[Spot]:
        with self.spot(name) as spot:
            if spot is None:
                raise _refused(errno.EINVAL, name)
            yield spot


class Top(Folder):
    """The root directories, by their number. They belong to the administrator: their names never change."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def names(self) -> Iterable[bytes]:
        return [b"%d" % root for root in range(len(self._roots))]

    def spot(self, name: bytes) -> AbstractContextManager[Spot | None]:
        raise _refused(errno.EPERM, name)

    def room(self, name: bytes, volume: Volume) -> AbstractContextManager[Spot]:
        raise _refused(errno.EPERM, name)

    def open(self, name: bytes) -> int | None:
        """As `Folder.open`.

        Raises:
            StopRule: another directory is where the root was.
        """
        return self._roots.open(int(name)) if name in self.names() else None


class KeptWhole(Folder):
    """All stores as one directory."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def names(self) -> Iterator[bytes]:
        for fd in self._stores.all():
            yield from Plain(fd, self._stores.hidden).names()

    @contextmanager
    def spot(self, name: bytes) -> Iterator[Spot | None]:
        known = safe_name(name) and name not in self._stores.hidden
        yield next((Spot(fd, name) for fd in self._stores.all() if known and exists(fd, name)), None)

    @contextmanager
    def room(self, name: bytes, volume: Volume) -> Iterator[Spot]:
        if not safe_name(name) or name in self._stores.hidden:
            raise _refused(errno.EINVAL, name)
        yield Spot(self._stores.make(volume), name)


class Staged(Folder):
    """The staging files, by root and path of the file that they become."""

    def __init__(self, roots: Roots, kept: Kept) -> None:
        self._roots = roots
        self._kept = kept

    def names(self) -> Iterator[bytes]:
        for root in range(len(self._roots)):
            with self._staging() as staging:
                yield from (b"%d/%s" % (root, path) for path in staging.paths(root))

    @contextmanager
    def spot(self, name: bytes) -> Iterator[Spot | None]:
        place = self._place(name)
        if place is None:
            yield None
            return
        with self._staging() as staging:
            found = staging.find(place)
            yield None if found is None else Spot(*found)

    @contextmanager
    def room(self, name: bytes, volume: Volume) -> Iterator[Spot]:
        place = self._place(name)
        if place is None:
            raise _refused(errno.EINVAL, name)
        with self._kept.in_use, self._staging() as staging:
            rooms = [Spot(*room) for room in staging.rooms(place)]
            yield next((spot for spot in rooms if Volume.of(spot.fd) == volume), rooms[0])

    @contextmanager
    def _staging(self) -> Iterator[Staging]:
        with Directories(self._roots, self._kept.names.reserved) as directories:
            yield Staging(Private(directories, self._kept))

    def _place(self, name: bytes) -> Place | None:
        number, _, path = name.partition(b"/")
        if number not in Top(self._roots).names() or not path or not safe_path(path):
            return None
        return Place(int(number), path)


def _refused(code: int, name: bytes) -> OSError:
    return OSError(code, os.strerror(code), name)
