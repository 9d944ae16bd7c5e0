"""A replica in memory with inodes, hard links, holes and staging files, and a power that can fail.

Each record is carried out in primitive steps. A power cut leaves all that was flushed, a prefix of the later changes of
names, and any of the later changes of content, perhaps torn in the middle.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle, Identity
from i2core.api.records import Buffer, Meta
from i2core.history.model.grain import Grain

GRAIN = Grain(hole=4, block=8, wider=2, whole_every=4)
HOLE = GRAIN.hole
DIRECTORY = Meta(stat.S_IFDIR | 0o755, 0, 0, 1, (), 0)
EMPTY_FILE = Meta(stat.S_IFREG | 0o600, 0, 0, 0, (), 0)
NAME_CHANGES = ("mv", "unlink", "link", "new")


class Inode:
    """An object."""

    __slots__ = ("accidental", "alloc", "data", "entries", "identity", "meta", "target")

    def __init__(self, identity: Identity, meta: Meta, target: bytes = b"") -> None:
        self.identity, self.meta, self.target = identity, meta, target
        self.data = bytearray()
        self.alloc: set[int] = set()
        self.entries: dict[bytes, Inode] = {}
        self.accidental = False

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.meta.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.meta.mode)

    def write(self, at: int, data: Buffer) -> None:
        if data:
            end = at + len(data)
            self.data += bytes(max(0, at - len(self.data)))
            self.data[at:end] = data
            self.alloc |= set(range(at // HOLE, (end - 1) // HOLE + 1))

    def punch(self, at: int, hi: int) -> None:
        end = min(len(self.data), hi)
        if at < end:
            self.data[at:end] = bytes(end - at)
            self.alloc -= set(range(-(-at // HOLE), hi // HOLE))

    def truncate(self, size: int) -> None:
        del self.data[size:]
        self.data += bytes(size - len(self.data))
        self.alloc = {block for block in self.alloc if block * HOLE < size}

    def holes(self) -> bytes:
        """A flag for each byte."""
        return bytes(i // HOLE not in self.alloc for i in range(len(self.data)))


def count(top: Inode, inode: Inode) -> int:
    """Names of the object beneath a directory."""
    return sum((node is inode) + count(node, inode) for node in top.entries.values())


class Disk:
    """`Replica` in memory, and the sink that carries out steps."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self._made = 0
        self.root, self.store, self.staging, self.top = (self.inode(DIRECTORY) for _ in range(4))
        self.top.entries[b"0"] = self.root
        self._open: dict[int, Inode] = {1: self.top, 2: self.store, 3: self.staging}
        self._handles = 3
        self.staged: set[bytes] = set()
        """Paths whose staging file the sink saw begin."""
        self.log: list[tuple[Any, ...]] = []
        self.durable: dict[Inode, tuple[Any, ...]] = {}
        self.changes = 0
        self.counts_links = False
        """Only while history is switched on: counting is slow here."""

    def inode(self, meta: Meta, target: bytes = b"") -> Inode:
        self._made += 1
        return Inode(Identity(1, self.rng.randrange(100), self._made), meta, target)

    # ------------------------------------------------------------------------------------------- Present

    def directory(self, oid: int) -> Handle:
        return Handle({TOP: 1, STORE: 2, STAGING: 3}[oid])

    def at(self, handle: Handle) -> Inode:
        return self._open[handle]

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        found = self.at(directory).entries.get(name)
        return None if found is None else self.opened(found)

    def opened(self, inode: Inode) -> Handle:
        self._handles += 1
        self._open[self._handles] = inode
        return Handle(self._handles)

    def names(self, directory: Handle) -> Iterable[bytes]:
        return list(self.at(directory).entries)

    def facts(self, handle: Handle) -> Facts:
        inode = self.at(handle)
        return Facts(inode.identity, inode.meta, len(inode.data), self._links(inode))

    def _links(self, inode: Inode) -> int:
        return 1 if inode.is_dir or not self.counts_links else count(self.root, inode)

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        inode = self.at(handle)
        hi = min(hi, len(inode.data))
        while lo < hi:
            end = min(hi, lo // HOLE * HOLE + HOLE)
            yield Extent(lo, end, lo // HOLE not in inode.alloc)
            lo = end

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        return bytes(self.at(handle).data[lo:hi])

    def release(self, handle: Handle) -> None:
        if handle > 3:
            del self._open[handle]

    @property
    def open_handles(self) -> int:
        return len(self._open) - 3

    # ------------------------------------------------------------------------------------------- Replica

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        source = self.at(directory)
        assert new not in self.at(target).entries
        self.do("mv", source.entries[name], source, name, self.at(target), new)

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        assert new not in self.at(target).entries and not self.at(handle).is_dir
        self.do("link", self.at(handle), self.at(target), new)

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
        """All that was done is durable."""
        self.log, self.durable = [], {}

        def keep(node: Inode) -> None:
            if node not in self.durable:
                state = (node.meta, bytes(node.data), set(node.alloc), dict(node.entries), node.accidental)
                self.durable[node] = state
                for child in node.entries.values():
                    keep(child)

        for top in (self.top, self.store, self.staging):
            keep(top)

    # ------------------------------------------------------------------------------------------- primitive steps

    def do(self, *step: Any) -> None:
        self.log.append(step)
        self.changes += 1
        self._run(step)

    def _run(self, step: tuple[Any, ...]) -> None:
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
        elif kind == "touch":
            node.meta = node.meta._replace(mtime_ns=10**6 + self.rng.randrange(10**6))
            node.accidental = True
        elif kind == "meta":
            node.meta, node.accidental = step[2], False
        else:
            getattr(node, kind)(*step[2:])

    def staged_for_good(self) -> dict[bytes, Inode]:
        """Durable staging files, except those that the sink has removed, replaced or moved by itself since."""
        names: dict[bytes, Inode] = self.durable[self.staging][3]
        gone = {step[1] for step in self.log if step[0] == "unlink" or (step[0] == "mv" and step[4] is self.staging)}
        again = {step[3] for step in self.log if step[0] == "new" and step[2] is self.staging}
        return {name: node for name, node in names.items() if node not in gone and name not in again}

    def cut_power(self) -> None:
        """The disk as the power cut leaves it."""
        rng = self.rng
        for step in self.log:
            for node in step:
                if isinstance(node, Inode) and node.is_dir and node not in self.durable:
                    node.entries.clear()
        for node, (meta, data, alloc, entries, accidental) in self.durable.items():
            node.meta, node.data, node.alloc = meta, bytearray(data), set(alloc)
            node.entries, node.accidental = dict(entries), accidental
        left = rng.randrange(sum(step[0] in NAME_CHANGES for step in self.log) + 1)
        for step in self.log:
            if step[0] in NAME_CHANGES:
                if left:
                    self._run(step)
                    left -= 1
            elif rng.random() < 0.6:
                torn = step[0] == "write" and rng.random() < 0.3
                self._run((*step[:3], step[3][: rng.randrange(len(step[3]) + 1)]) if torn else step)
        self.staged.clear()
        for handle in [handle for handle in self._open if handle > 3]:
            del self._open[handle]

    # ---------------------------------------------------------------------- looking for paths

    def walk(self, path: bytes) -> Inode | None:
        node: Inode | None = self.root
        for name in path.split(b"/") if path else ():
            node = node.entries.get(name) if node is not None and node.is_dir else None
        return node

    def place(self, path: bytes) -> tuple[Inode, bytes] | None:
        above, _, name = path.rpartition(b"/")
        node = self.walk(above)
        return (node, name) if node is not None and node.is_dir else None
