"""What the kernel knows of a mount: nodes, each a name in a directory that led to an object.

    Top ── root ── name ── name …        a node knows its parent, so it has a path

The kernel names a node by a number and says when it forgets it. So there are as many nodes here as the kernel keeps in
its caches, which it shrinks when memory is short. Names of one object are several nodes with one inode number.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
from collections.abc import Iterator, Mapping
from itertools import islice

import attrs
import xxhash

from i2core.api.records import Entry, Xattrs
from i2core.api.tree import AttributesUnreadable, OpenDirectory, OpenFile, RootGone, Tree
from i2core.mount.protocol import ROOT_ID

_IDENTITY = struct.Struct("=QQQ")
_MASK64 = (1 << 64) - 1
_SEVERAL = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0)
"""The directory that holds several roots."""
_RESERVED = 2
"""Inode numbers below this mean something else: 0 a name that is to be skipped, 1 the top."""


@attrs.frozen(eq=False)
class Root:
    """A tree that is served, and its number in the mount."""

    number: int
    tree: Tree

    def ino(self, entry: Entry) -> int:
        """The inode number that the mount shows. A mount has one device, a tree may have several, so a digest stands
        for both numbers and the root."""
        packed = _IDENTITY.pack(self.number, entry.dev & _MASK64, entry.ino & _MASK64)
        return max(_RESERVED, xxhash.xxh3_64_intdigest(packed))


class Node:
    """A name that led to an object. Memory holds one for each name that the kernel knows."""

    __slots__ = ("children", "id", "ino", "lookups", "mode", "name", "opened", "parent", "plain", "root")

    def __init__(self, number: int, parent: Node | None, name: bytes, root: Root | None) -> None:
        self.id, self.parent, self.name, self.root = number, parent, name, root
        self.children: dict[bytes, Node] | None = None
        self.lookups = self.ino = self.mode = 0
        self.plain = False
        """It has no extended attributes."""
        self.opened: tuple[int, int, int] | None = None
        """Size and times when it was opened last; None: it was not, or does not change."""

    @property
    def is_top(self) -> bool:
        """The top of a tree, or of the mount."""
        return self.parent is None or self.parent.root is None

    @property
    def tree(self) -> Tree:
        """The tree that it belongs to."""
        assert self.root is not None, "the directory of several roots is in no tree"
        return self.root.tree

    @property
    def is_fixed(self) -> bool:
        """It does not change."""
        return self.root is None or self.root.tree.is_fixed

    @property
    def path(self) -> bytes:
        """Where it is in its tree."""
        names: list[bytes] = []
        node = self
        while not node.is_top:
            names.append(node.name)
            assert node.parent is not None
            node = node.parent
        return b"/".join(reversed(names))

    @property
    def shown(self) -> bytes:
        """Where it is, for people."""
        return b"/".join(part for part in (b"" if self.root is None else self.tree.path, self.path) if part)

    def is_it(self, entry: Entry) -> bool:
        """True when the entry is of the object that the name led to."""
        if self.root is None:
            return True
        return self.ino == self.root.ino(entry) and stat.S_IFMT(self.mode) == stat.S_IFMT(entry.mode)


class Several(OpenDirectory):
    """The directory that holds several roots, each by its name."""

    __slots__ = ("_roots",)

    def __init__(self, roots: Mapping[bytes, Root]) -> None:
        self._roots = roots

    def here(self) -> Entry:
        return _SEVERAL

    def entry(self, name: bytes) -> Entry | None:
        root = self._roots.get(name)
        if root is None:
            return None
        try:
            with root.tree.directory(b"") as directory:
                return directory.here()._replace(name=name)
        except RootGone as error:  # this root alone
            raise AttributesUnreadable(errno.EIO, error.cause, name) from error

    def names(self, most: int) -> Iterator[list[bytes]]:
        names = iter(self._roots)
        while part := list(islice(names, most)):
            yield part

    def xattrs(self, name: bytes) -> Xattrs | None:
        root = self._roots.get(name)
        if root is None:
            return ()
        with root.tree.directory(b"") as directory:
            return directory.xattrs(b"")

    def open(self, name: bytes) -> OpenFile:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)

    def kernel_flags(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""


class Nodes:
    """All nodes that the kernel knows; several threads call it."""

    def __init__(self, roots: Mapping[bytes, Root]) -> None:
        """`roots` by their names; one without a name is the top itself."""
        self.roots = roots
        top = Node(ROOT_ID, None, b"", roots.get(b""))
        top.ino, top.mode = ROOT_ID, stat.S_IFDIR
        self._nodes = {ROOT_ID: top}
        self._last = ROOT_ID
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, number: int) -> Node:
        """The node of that number.

        Raises:
            OSError: the kernel means one that it has forgotten.
        """
        try:
            return self._nodes[number]
        except KeyError:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None

    def root_of(self, parent: Node, name: bytes) -> Root:
        """The root that a name in this directory belongs to."""
        return self.roots[name] if parent.root is None else parent.root

    def found(self, parent: Node, entry: Entry) -> Node:
        """The node of a name that the kernel gets to know, once more. A name that leads to another object than before
        is another node: what is open keeps the old one."""
        root = self.root_of(parent, entry.name)
        ino = root.ino(entry)
        with self._lock:
            if parent.children is None:
                parent.children = {}
            node = parent.children.get(entry.name)
            if node is None or node.ino != ino or stat.S_IFMT(node.mode) != stat.S_IFMT(entry.mode):
                self._last += 1
                node = parent.children[entry.name] = Node(self._last, parent, entry.name, root)
                node.ino, node.mode = ino, entry.mode
                self._nodes[node.id] = node
            node.lookups += 1
            node.plain = entry.xattrs == 0
            return node

    def forget(self, number: int, times: int) -> None:
        """The kernel takes back so many of the times that it got to know the node."""
        with self._lock:
            node = self._nodes.get(number)
            if node is None or node.parent is None:
                return
            node.lookups -= times
            if node.lookups <= 0:
                del self._nodes[number]
                above = node.parent.children
                if above is not None and above.get(node.name) is node:
                    del above[node.name]
                    if not above:
                        node.parent.children = None
