"""A disk in memory: objects, and the names that lead to them. `MemorySink` writes to it, `MemoryTree` reads it."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping

import attrs

from i2core.api import Entry, Meta, xattr_digest
from i2core.api.inode_flags import UNREAD, may_have_flags
from i2core.api.present import Identity
from i2core.testing.sparse import Sparse


@attrs.define(eq=False)
class Node(Sparse):
    """One object; hard links are one node under several names."""

    ino: int
    meta: Meta
    data: bytearray = attrs.field(factory=bytearray)
    alloc: set[int] = attrs.field(factory=set)
    hole: int = 4096
    target: bytes = b""
    rdev: int = 0
    entries: dict[bytes, Node] = attrs.field(factory=dict)
    staging: dict[bytes, Node] = attrs.field(factory=dict)
    """For a directory: its staging files, by the name that they will get."""
    torn: bool = False
    """For a file: a record has failed to change its content, and nobody has asked for the content since."""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.meta.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.meta.mode)

    @property
    def identity(self) -> Identity:
        """As a history knows it."""
        return Identity(1, self.ino, 0)

    def entry(self, name: bytes, links: Mapping[int, int], *, flags: bool) -> Entry:
        """Its entry under that name. `links` is what `MemoryDisk.links` gives; without `flags` they count as unread."""
        mode, uid, gid, mtime_ns, xattrs, inode_flags = self.meta
        size = len(self.data) or len(self.target)
        entry = Entry(name, mode, uid, gid, size, mtime_ns, links.get(self.ino, 1), self.ino, rdev=self.rdev)
        return entry._replace(
            blocks=-(-size // 512),
            target=self.target,
            xattrs=xattr_digest(xattrs or ()),
            flags=inode_flags if flags and may_have_flags(mode) else UNREAD,
        )


def walk(node: Node) -> Iterator[Node]:
    """The node and everything beneath it; an object with several names once for each."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += list(node.entries.values())


@attrs.define
class MemoryDisk:
    """Root directories by their absolute paths. Like a disk, it outlives the sinks and trees that are opened on it.
    Other threads may read it while one changes it: they go through copies of its dictionaries."""

    roots: dict[bytes, Node] = attrs.field(factory=dict)
    stores: dict[bytes, Node] = attrs.field(factory=dict)
    """Where the objects of a replica lie that its history keeps whole, by the path of its first root."""
    last_ino: int = 0

    def node(self, meta: Meta) -> Node:
        """A new object."""
        self.last_ino += 1
        return Node(self.last_ino, meta._replace(xattrs=meta.xattrs or (), flags=max(meta.flags, 0)))

    def directory(self, path: bytes) -> Node:
        """The root directory of this path, created if it is missing."""
        if path not in self.roots:
            self.roots[path] = self.node(Meta(stat.S_IFDIR | 0o755, 0, 0, 0))
        return self.roots[path]

    def store(self, root: bytes) -> Node:
        """The store of the replica whose first root has this path, made if it is missing."""
        return self.stores.setdefault(root, self.node(Meta(stat.S_IFDIR | 0o700, 0, 0, 0)))

    def links(self) -> dict[int, int]:
        """How many names each object has, by its inode number; none for a root."""
        found: dict[int, int] = {}
        for root in list(self.roots.values()):
            for node in walk(root):
                for child in list(node.entries.values()):
                    found[child.ino] = found.get(child.ino, 0) + 1
        return found
