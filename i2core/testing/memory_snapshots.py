"""Snapshots in memory: the contract of `SnapshotStore` in the simplest form. Each is a copy of all directories.

`MemoryMoments` stands for a history in the same way, for stores that keep their snapshots in one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager

import attrs
import trio

from i2core.api import DriverKind, DriverSpec, Entry, Meta, NoConfig
from i2core.api.snapshots import SnapshotContext, SnapshotGone, SnapshotStore
from i2core.api.tree import OpenDirectory, Tree
from i2core.posix.tree import LocalTree
from i2core.testing.memory_disk import MemoryDisk, Node
from i2core.testing.memory_tree import MemoryTree


@attrs.define
class Copies:
    """Copies of directories, by name; they outlive the stores that are opened on them."""

    roots: tuple[bytes, ...] = ()
    disks: dict[str, MemoryDisk] = attrs.field(factory=dict)

    def add(self, name: str, roots: Sequence[int]) -> None:
        """Copies these open directories."""
        disk = MemoryDisk()
        for number, fd in enumerate(roots):
            with closing(LocalTree(b"/proc/self/fd/%d" % fd)) as tree:
                top = tree.lookup(b"")
                assert top is not None
                with tree.directory(b"") as directory:
                    disk.roots[b"%d" % number] = node = _node(disk, top, directory.xattrs(b""))
                    _fill(disk, tree, b"", node, {})
        self.disks[name] = disk

    def tree(self, root: int, name: str) -> Tree:
        """One of the copied directories."""
        if name not in self.disks:
            raise SnapshotGone("there is no such copy", obj=name)
        tree = MemoryTree(self.disks[name], b"%d" % root)
        tree.is_fixed = True
        return tree


class MemorySnapshots(SnapshotStore):
    """Keeps whole copies in memory."""

    def __init__(self, copies: Copies) -> None:
        self._copies = copies

    async def create(self, name: str, roots: Sequence[int]) -> None:
        await trio.lowlevel.checkpoint()
        self._copies.add(name, roots)

    async def remove(self, name: str) -> None:
        self._copies.disks.pop(name, None)

    async def names(self) -> Collection[str]:
        return set(self._copies.disks)

    async def space(self, name: str) -> int | None:
        if name not in self._copies.disks:
            raise SnapshotGone("there is no such snapshot", obj=name)
        return None

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Sequence[Tree]]:
        if name not in self._copies.disks:
            raise SnapshotGone("there is no such snapshot", obj=name)
        roots = len(self._copies.disks[name].roots)
        yield [self._copies.tree(root, name) for root in range(roots)]

    @classmethod
    def spec(cls, copies: Copies | None = None) -> DriverSpec:
        """A driver that always opens the same snapshots."""
        kept = Copies() if copies is None else copies

        @asynccontextmanager
        async def open_memory(config: NoConfig, context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
            yield cls(kept)

        return DriverSpec(
            kind=DriverKind.SNAPSHOT_STORE, name="memory", summary="snapshots in memory, for tests", open=open_memory
        )


class MemoryMoments:
    """A history whose moments are copies of what the directories hold."""

    def __init__(self, roots: Sequence[bytes]) -> None:
        self._roots, self._copies = roots, Copies()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[MemoryMoments]:
        """For `SnapshotContext.moments`."""
        yield self

    @property
    def kept(self) -> Collection[str]:
        """All names."""
        return set(self._copies.disks)

    async def keep(self, name: str) -> None:
        """Copies the directories."""
        await trio.lowlevel.checkpoint()
        with _opened(self._roots) as fds:
            self._copies.add(name, fds)

    async def give_up(self, name: str) -> None:
        """Forgets the copies."""
        self._copies.disks.pop(name, None)

    def tree(self, root: int, name: str) -> Tree:
        """A copy."""
        return self._copies.tree(root, name)


@contextmanager
def _opened(roots: Sequence[bytes]) -> Iterator[list[int]]:
    fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for root in roots]
    try:
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _fill(disk: MemoryDisk, tree: Tree, path: bytes, node: Node, seen: dict[tuple[int, int], Node]) -> None:
    with tree.directory(path) as directory:
        entries = [entry for part in directory.listing(100) for entry in part]
        for entry in entries:
            key = entry.dev, entry.ino
            child = seen.get(key) or _copied(disk, directory, entry)
            if not child.is_dir:
                seen[key] = child
            node.entries[entry.name] = child
    for entry in entries:
        if stat.S_ISDIR(entry.mode):
            below = path + b"/" + entry.name if path else entry.name
            _fill(disk, tree, below, node.entries[entry.name], seen)


def _copied(disk: MemoryDisk, directory: OpenDirectory, entry: Entry) -> Node:
    node = _node(disk, entry, directory.xattrs(entry.name))
    if stat.S_ISREG(entry.mode):
        with directory.open(entry.name) as file:
            node.data = bytearray(file.read(0, entry.size))
    return node


def _node(disk: MemoryDisk, entry: Entry, xattrs: tuple[tuple[bytes, bytes], ...] | None) -> Node:
    node = disk.node(Meta(entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs))
    node.target, node.rdev = entry.target, entry.rdev
    return node
