"""A replica in memory with inodes, hard links, holes and staging files: `Replica` in the simplest form."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle, Identity
from i2core.api.records import Buffer, Kind, Meta, Record
from i2core.testing.sparse import Sparse

DIRECTORY = Meta(stat.S_IFDIR | 0o755, 0, 0, 1, (), 0)
EMPTY_FILE = Meta(stat.S_IFREG | 0o600, 0, 0, 0, (), 0)


class Inode(Sparse):
    """An object."""

    __slots__ = ("accidental", "alloc", "data", "device", "entries", "hole", "identity", "meta", "target")

    def __init__(self, identity: Identity, meta: Meta, target: bytes = b"", *, hole: int = 4096) -> None:
        """`hole`: size of a block, in bytes. `target`: the text of a symlink."""
        self.identity, self.meta, self.target, self.hole = identity, meta, target, hole
        self.device = 0
        """The number of a device."""
        self.data = bytearray()
        self.alloc: set[int] = set()
        """The blocks that are no holes."""
        self.entries: dict[bytes, Inode] = {}
        self.accidental = False
        """Its time is an accident of this node, and not promised."""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.meta.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.meta.mode)


def count(top: Inode, inode: Inode) -> int:
    """Names of the object beneath a directory."""
    return sum((node is inode) + count(node, inode) for node in top.entries.values())


class MemoryReplica:
    """`Replica` in memory. Each change is one call of `do`. It has a method for each of the contract."""

    def __init__(self, *, roots: int = 1, hole: int = 4096) -> None:
        """`hole`: size of a block of the file system, in bytes."""
        self.hole = hole
        self._made = 0
        self.top, self.store, self.staging = (self.inode(DIRECTORY) for _ in range(3))
        self.top.entries.update((b"%d" % root, self.inode(DIRECTORY)) for root in range(roots))
        self.root = self.top.entries[b"0"]
        self._open: dict[int, Inode] = {TOP: self.top, STORE: self.store, STAGING: self.staging}
        self._handles = max(self._open)

    def inode(self, meta: Meta, target: bytes = b"") -> Inode:
        """A new object, without a name."""
        self._made += 1
        return Inode(Identity(1, self._made, 0), meta, target, hole=self.hole)

    # ------------------------------------------------------------------------------------------- Present

    def directory(self, oid: int) -> Handle:
        return Handle(oid)

    def at(self, handle: Handle) -> Inode:
        """The open object itself."""
        return self._open[handle]

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        found = self.at(directory).entries.get(name)
        return None if found is None else self.opened(found)

    def opened(self, inode: Inode) -> Handle:
        """Opens an object."""
        self._handles += 1
        self._open[self._handles] = inode
        return Handle(self._handles)

    def names(self, directory: Handle) -> Iterable[bytes]:
        return list(self.at(directory).entries)

    def facts(self, handle: Handle) -> Facts:
        inode = self.at(handle)
        return Facts(inode.identity, inode.meta, len(inode.data), self.links(inode), inode.target, inode.device)

    def links(self, inode: Inode) -> int:
        """Names that the object has."""
        tops = (self.store, self.staging, self.top)
        return 1 if inode.is_dir else sum(count(top, inode) for top in tops)

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        return self.at(handle).extents(lo, hi)

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        return bytes(self.at(handle).data[lo:hi])

    def release(self, handle: Handle) -> None:
        if handle not in (TOP, STORE, STAGING):
            del self._open[handle]

    @property
    def open_handles(self) -> int:
        """How many objects are open."""
        return len(self._open) - 3

    # ------------------------------------------------------------------------------------------- Replica

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        source, goal = self.at(directory), self.at(target)
        if name not in source.entries and new in goal.entries:
            return  # moved before
        if name not in source.entries:
            raise _error(errno.ENOENT, name)
        self._check_free(goal, new)
        self.do("mv", source.entries[name], source, name, goal, new)

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        inode, goal = self.at(handle), self.at(target)
        if inode.is_dir:
            raise _error(errno.EPERM, new)
        if goal.entries.get(new) is not inode:
            self._check_free(goal, new)
            self.do("link", inode, goal, new)

    @staticmethod
    def _check_free(directory: Inode, name: bytes) -> None:
        if name in directory.entries:
            raise _error(errno.EEXIST, name)

    def remove(self, directory: Handle, name: bytes) -> None:
        found = self.at(directory).entries.get(name)
        if found is not None:
            self.do("unlink", found, self.at(directory), name)

    def truncate(self, handle: Handle, size: int) -> None:
        self.do("truncate", self.at(handle), size)

    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        self.do("write", self.at(handle), lo, bytes(data))

    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        self.do("punch", self.at(handle), lo, hi)

    def set_meta(self, handle: Handle, meta: Meta) -> None:
        self.do("meta", self.at(handle), meta)

    def flush(self) -> None:
        """Nothing can be lost."""

    # ------------------------------------------------------------------------------------------- primitive steps

    def do(self, *step: Any) -> None:
        """Carries out one change: its kind, the object, and what else belongs to it."""
        kind, node = step[0], step[1]
        if kind == "mv":
            _, _, a, old, b, new = step
            if a.entries.get(old) is node:
                del a.entries[old]
                b.entries[new] = node
        elif kind == "unlink":
            if step[2].entries.get(step[3]) is node:
                del step[2].entries[step[3]]
        elif kind in ("link", "new"):
            step[2].entries[step[3]] = node
        elif kind == "meta":
            node.meta, node.accidental = step[2], False
        else:
            getattr(node, kind)(*step[2:])

    # ------------------------------------------------------------------------------------------- as a sink makes it

    def apply(self, records: Sequence[Record]) -> None:
        """Makes objects as a sink does: new ones, further names, and staging files."""
        for record in records:
            above, _, name = record.path.rpartition(b"/")
            directory, staged = self._walk(record.root, above), b"%d/%s" % (record.root, record.path)
            if record.kind in (Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD):
                assert record.meta
                node = directory.entries[name] = self.inode(record.meta, record.other)
                node.device = record.size
                node.write(0, record.data)
            elif record.kind is Kind.LINK:
                directory.entries[name] = self._walk(record.root, record.other)
            elif record.kind is Kind.STAGE:
                self.staging.entries[staged] = self.inode(EMPTY_FILE)
            elif record.kind is Kind.WRITE and record.staged:
                self.staging.entries[staged].write(record.offset, record.data)
            elif record.kind is Kind.PUBLISH:
                assert record.meta
                node = directory.entries[name] = self.staging.entries.pop(staged)
                node.truncate(record.size)
                node.meta = record.meta
            else:
                raise ValueError(f"no record for a new replica: {record.kind}")

    def _walk(self, root: int, path: bytes) -> Inode:
        node = self.top.entries[b"%d" % root]
        for name in path.split(b"/") if path else ():
            node = node.entries[name]
        return node


def _error(code: int, name: bytes) -> OSError:
    return OSError(code, os.strerror(code), name)
