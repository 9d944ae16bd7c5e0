"""The replica of a `MemorySink` as its history sees it: the contract of `Replica` on a `MemoryDisk`."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from i2core.api import Meta
from i2core.api.inode_flags import UNREAD
from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle
from i2core.api.records import Buffer, safe_name, safe_path
from i2core.testing.memory_disk import MemoryDisk, Node, walk

_DIRECTORY = Meta(stat.S_IFDIR | 0o700, 0, 0, 0)
_NAME_BYTES = 255


class DiskReplica:
    """Everything is durable at once. A staging file whose directory is not in the replica is kept, and no sink goes on
    with it. It has as many methods as the contract."""

    def __init__(self, disk: MemoryDisk, roots: Sequence[bytes]) -> None:
        self._roots = {b"%d" % root: disk.directory(path) for root, path in enumerate(roots)}
        self._top, self._staging = Node(-TOP, _DIRECTORY, entries=self._roots), Node(-STAGING, _DIRECTORY)
        self._store = disk.store(roots[0])
        self._open: dict[int, Node] = {TOP: self._top, STORE: self._store, STAGING: self._staging}
        self._handles = max(self._open)

    # ------------------------------------------------------------------------------------------- questions

    def directory(self, oid: int) -> Handle:
        return Handle(oid)

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        holder = self._holder(directory, name)
        node = None if holder is None else holder[0].get(holder[1])
        if node is None:
            return None
        self._handles += 1
        self._open[self._handles] = node
        return Handle(self._handles)

    def _holder(self, directory: Handle, name: bytes) -> tuple[dict[bytes, Node], bytes] | None:
        """Where the name is or can be, and what it is there; None: nothing can have it."""
        if directory != STAGING:
            node = self._open[directory]
            return (node.entries, name) if node.is_dir and safe_name(name) and len(name) <= _NAME_BYTES else None
        number, _, path = name.partition(b"/")
        if number not in self._roots or not path or not safe_path(path):
            return None
        node = self._roots[number]
        *above, last = path.split(b"/")
        for part in above:
            if part not in node.entries:
                return self._staging.entries, name
            node = node.entries[part]
        return (node.staging, last) if node.is_dir else None

    def names(self, directory: Handle) -> Iterable[bytes]:
        names = list(self._open[directory].entries)
        return names if directory != STAGING else [*names, *self._staged()]

    def _staged(self) -> Iterator[bytes]:
        waiting = list(self._roots.items())
        while waiting:
            path, node = waiting.pop()
            waiting += [(path + b"/" + name, child) for name, child in node.entries.items()]
            yield from (path + b"/" + name for name in node.staging)

    def facts(self, handle: Handle) -> Facts:
        node = self._open[handle]
        meta = node.meta._replace(flags=UNREAD)
        size = len(node.data) if node.is_file else 0
        return Facts(node.identity, meta, size, self._links(node), node.target, node.rdev)

    def _links(self, node: Node) -> int:
        tops = (self._top, self._store, self._staging)
        names = sum(child is node for top in tops for each in walk(top) for child in each.entries.values())
        return 1 if node.is_dir else max(1, names)

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        return self._open[handle].extents(lo, hi)

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        return bytes(self._open[handle].data[lo:hi])

    def release(self, handle: Handle) -> None:
        if handle not in (TOP, STORE, STAGING):
            del self._open[handle]

    # ------------------------------------------------------------------------------------------- changes

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        source, goal = self._changing(directory, name), self._changing(target, new)
        if source[1] in source[0]:
            self._check_free(goal)
            goal[0][goal[1]] = source[0].pop(source[1])
        elif goal[1] not in goal[0]:
            raise _error(errno.ENOENT, name)

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        node, goal = self._open[handle], self._changing(target, new)
        if node.is_dir:
            raise _error(errno.EPERM, new)
        if goal[0].get(goal[1]) is not node:
            self._check_free(goal)
            goal[0][goal[1]] = node

    def remove(self, directory: Handle, name: bytes) -> None:
        names, there = self._changing(directory, name)
        names.pop(there, None)

    def _changing(self, directory: Handle, name: bytes) -> tuple[dict[bytes, Node], bytes]:
        holder = self._holder(directory, name)
        if holder is None or directory == TOP:
            raise _error(errno.EINVAL, name)
        return holder

    @staticmethod
    def _check_free(goal: tuple[dict[bytes, Node], bytes]) -> None:
        if goal[1] in goal[0]:
            raise _error(errno.EEXIST, goal[1])

    def truncate(self, handle: Handle, size: int) -> None:
        self._open[handle].truncate(size)

    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        self._open[handle].write(lo, data)

    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        self._open[handle].punch(lo, hi)

    def set_meta(self, handle: Handle, meta: Meta) -> None:
        node = self._open[handle]
        node.meta = meta._replace(flags=node.meta.flags if meta.flags == UNREAD else meta.flags)

    def flush(self) -> None:
        """Nothing can be lost."""


def _error(code: int, name: bytes) -> OSError:
    return OSError(code, os.strerror(code), name)
