"""Snapshots that lie beside the replica, one directory for each root: what stores on clones and on subvolumes have in
common.

    <beside the root>/.i2-snapshots-<32 hex digits>/   0700
        NAME            the state of the root
        NAME.whole      an empty file, for the first root alone: the snapshot of this name is complete

The empty file is made last and goes first, each step durable before the next. Removing a file is what a full disk still
allows; renaming is not, on btrfs.
"""

from __future__ import annotations

import errno
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import trio

from i2core.api import Code, StopRule, check_cancelled, in_thread
from i2core.api.snapshots import SnapshotContext, SnapshotGone, SnapshotStore
from i2core.api.tree import Tree
from i2core.posix.beside import Beside, NoPlace, beside
from i2core.posix.errnos import FULL
from i2core.posix.opening import NEW_FILE, READABLE
from i2core.posix.sharing import own_bytes
from i2core.posix.syscalls import sync_filesystem
from i2core.posix.tree import LocalTree

PURPOSE = "snapshots"
_WHOLE = b".whole"


class BesideSnapshots(SnapshotStore):
    """A store whose snapshots are directories beside the replica. A subclass says how one is made and removed."""

    def __init__(self, context: SnapshotContext) -> None:
        """Blocks: finds the places.

        Raises:
            StopRule: a directory of the replica is gone, or has no place beside it.
        """
        self._places = [_place(root, context) for root in context.roots]
        self._flags = context.flags
        self._changing = trio.Lock()

    @abstractmethod
    def take(self, home: int, name: bytes, root: int) -> None:
        """Makes the directory `name` with the state of a root, in an open directory; blocks. Broken off, it may leave a
        part of it.

        Raises:
            OSError: it cannot be made; `filename` is the path in the root that is to blame, if one is.
        """

    @abstractmethod
    def clear(self, home: int, name: bytes) -> None:
        """Removes it, or what is left of it; nothing there is no error. Blocks.

        Raises:
            OSError: it cannot be removed.
        """

    def why(self, number: int) -> str:
        """What an errno of `take` means in this store; empty: what it always means."""
        return "another file system is mounted there, which a snapshot cannot have" if number == errno.EXDEV else ""

    # ------------------------------------------------------------------------------------------- the contract

    async def create(self, name: str, roots: Sequence[int]) -> None:
        async with self._changing:
            await in_thread(self._create, os.fsencode(name), roots)

    async def remove(self, name: str) -> None:
        async with self._changing:
            await in_thread(self._remove, os.fsencode(name))

    async def names(self) -> Collection[str]:
        return await in_thread(self._names)

    async def space(self, name: str) -> int | None:
        await self._check(name)
        return await in_thread(self._space, os.fsencode(name))

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Sequence[Tree]]:
        await self._check(name)
        trees: list[Tree] = []
        try:
            for place in self._places:
                trees.append(await in_thread(self._tree, place, os.fsencode(name)))
            yield trees
        finally:
            for tree in trees:
                tree.close()

    async def _check(self, name: str) -> None:
        if name not in await self.names():
            raise SnapshotGone("there is no such snapshot beside the replica", obj=name)

    # ------------------------------------------------------------------------------------------- in worker threads

    def _create(self, name: bytes, roots: Sequence[int]) -> None:
        for place, root in zip(self._places, roots, strict=True):
            with self._told(Code.SNAPSHOT_CREATE, place), _closed(place.make()) as home:
                self.take(home, name, root)
                sync_filesystem(home)
        with self._told(Code.SNAPSHOT_CREATE, self._places[0]), _closed(self._places[0].open()) as home:
            os.close(os.open(name + _WHOLE, NEW_FILE, 0o600, dir_fd=home))
            os.fsync(home)

    def _remove(self, name: bytes) -> None:
        for number, place in enumerate(self._places):
            with self._told(Code.SNAPSHOT_REMOVE, place), suppress(FileNotFoundError):
                with _closed(place.open()) as home:
                    if not number:
                        _spoil(home, name)
                    self.clear(home, name)
                place.remove_empty()

    def _names(self) -> Collection[str]:
        with self._told(Code.SNAPSHOT_MOUNT, self._places[0]), suppress(FileNotFoundError):
            with _closed(self._places[0].open()) as home:
                found = os.listdir(b"/proc/self/fd/%d" % home)
            return [os.fsdecode(name.removesuffix(_WHOLE)) for name in found if name.endswith(_WHOLE)]
        return ()

    def _space(self, name: bytes) -> int:
        total = 0
        for place in self._places:
            with (
                self._told(Code.SNAPSHOT_MOUNT, place),
                _closed(place.open()) as home,
                _closed(os.open(name, READABLE, dir_fd=home)) as fd,
            ):
                total += own_bytes(fd, check_cancelled)
        return total

    def _tree(self, place: Beside, name: bytes) -> Tree:
        with self._told(Code.SNAPSHOT_MOUNT, place):
            tree = LocalTree(place.path + b"/" + name, flags=self._flags)
        tree.is_fixed = True
        return tree

    @contextmanager
    def _told(self, code: Code, place: Beside) -> Iterator[None]:
        """Turns an `OSError` of the body into the `StopRule` that says what failed, and where."""
        try:
            yield
        except OSError as error:
            where = error.filename if isinstance(error.filename, bytes) else place.path
            why = (self.why(error.errno or 0) if code is Code.SNAPSHOT_CREATE else "") or error.strerror or "it fails"
            if error.errno in FULL:
                code, why = Code.REPLICA_FULL, f"there is no room: {why}"
            raise StopRule(why, code=code, obj=os.fsdecode(where)) from error


def _place(root: bytes, context: SnapshotContext) -> Beside:
    try:
        return beside(root, context.allowed, context.secret, PURPOSE)
    except (NoPlace, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        cause = f"the place of its snapshots cannot be found: {why}"
        raise StopRule(cause, code=Code.REPLICA_GONE, obj=os.fsdecode(root)) from error


@contextmanager
def _closed(fd: int) -> Iterator[int]:
    """Closes the descriptor at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def _spoil(home: int, name: bytes) -> None:
    """Notes that the snapshot is not complete any more, durably unless the disk is full."""
    with suppress(FileNotFoundError):
        os.unlink(name + _WHOLE, dir_fd=home)
    try:
        os.fsync(home)
    except OSError as error:
        if error.errno not in FULL:
            raise
