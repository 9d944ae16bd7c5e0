"""A harness for the reconciler: a real tree, a real catalog, and a replica in memory; no nodes, no link.

    async with reconciling(tmp_path) as tree:
        ...                       the tree is A: create it, and `await tree.sent()` ... the tree is B: change it
        records = await tree.job(Change(...), ...)

`job` feeds the changes to a dirty set, has the reconciler work them off to the end, applies the records to the replica,
and gives them as short lines. `differences` compares tree and replica. So a test says what crosses, and sees at once
whether that was enough.
"""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from i2core.api import Batch, Change, Kind, Lost, Op, Place, Record, SinkContext
from i2core.config.model import OnError
from i2core.drivers.chain import FilterChain
from i2core.posix.tree import LocalTree
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.life.status import RuleStatus
from i2core.rule.live.dirty import DirtySet, Mark
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.source.source import Source
from i2core.testing.memory_disk import MemoryDisk, Node
from i2core.testing.memory_sink import MemorySink

TARGET = b"/replica"


def place(name: str) -> Place:
    """In the only root."""
    return Place(0, name.encode())


def created(name: str, *, is_dir: bool = False) -> Change:
    return Change(Op.CREATE, place(name), is_dir)


def modified(name: str, inode: int = 0) -> Change:
    return Change(Op.MODIFY, place(name), inode=inode)


def removed(name: str, *, is_dir: bool = False) -> Change:
    return Change(Op.REMOVE, place(name), is_dir)


def renamed(old: str, new: str, *, is_dir: bool = False) -> Change:
    return Change(Op.RENAME, place(old), is_dir, place(new))


def attributes(name: str) -> Change:
    return Change(Op.ATTRIB, place(name))


def lost(name: str = "") -> Lost:
    return Lost(place(name), "on purpose")


class Reconciling:
    """One source tree, and what the replica has of it."""

    def __init__(self, top: Path) -> None:
        self.top = top / "source"
        self.top.mkdir()
        self.said: list[str] = []
        self.large: list[str] = []
        """The large files that were found."""
        self.catalog = Catalog(None)
        tree = LocalTree(os.fsencode(self.top))
        self.source = Source(
            rule="rule",
            trees=[tree],
            filter=FilterChain([]),
            catalog=self.catalog,
            status=RuleStatus(name="rule"),
            on_error=OnError.LOG,
            say=lambda rule, code, line: self.said.append(str(line)),
        )
        self.reconciler = Reconciler(self.source)
        self.dirty = DirtySet()
        self._disk = MemoryDisk()
        self._sink = MemorySink(SinkContext(roots=(TARGET,), allowed=(b"/",)), self._disk)
        self._next_seq = 1
        self._marks: deque[Mark] = deque()
        with self.catalog.unit():
            root = tree.lookup(b"")
            assert root is not None
            self.catalog.objects.put(Place(0, b""), root)

    def close(self) -> None:
        self.reconciler.walks.close()
        self.catalog.close(clean=False)
        for tree in self.source.trees:
            tree.close()

    async def sent(self) -> None:
        """All that is there is sent: the replica has what the source has."""
        await self.job(lost())
        assert self.differences() == []

    async def job(self, *changes: Change | Lost) -> list[str]:
        """Works off these changes, and all that follows from them."""
        lines = await self.once(*changes)
        walks, in_transit = self.reconciler.walks, self.reconciler.in_transit
        while self.dirty or self._marks or walks.oldest_ns is not None or in_transit.is_due:
            lines += await self.once()
        return lines

    async def once(self, *changes: Change | Lost) -> list[str]:
        """Works off these changes until there is enough to send, as one job does. Large files are found, and not
        sent."""
        self.dirty.add(changes)
        self._marks.extend(self.dirty.take(100))
        with self.catalog.unit():
            outcome = self.reconciler.job(self._marks, time.monotonic_ns())
        self.large += [os.fsdecode(large.place.path) for large in outcome.large]
        await self._apply(outcome.records)
        return [line for line in map(_line, outcome.records) if line]

    async def _apply(self, records: list[Record]) -> None:
        if records:
            applied = await self._sink.apply(Batch(self._next_seq, records))
            assert not applied.failures
            self._next_seq += len(records)

    def differences(self) -> list[str]:
        """Where the replica is not as the source."""
        seen: dict[int, int] = {}
        return list(_differences(self.top, self._disk.directory(TARGET), "", seen))

    def replica_inode(self, name: str) -> int:
        """Tells an object of the replica from any other."""
        node = self._disk.directory(TARGET)
        for part in name.encode().split(b"/"):
            node = node.entries[part]
        return node.ino


@asynccontextmanager
async def reconciling(top: Path) -> AsyncIterator[Reconciling]:
    """A harness that is closed at the end."""
    tree = Reconciling(top)
    try:
        yield tree
    finally:
        tree.close()


def _line(record: Record) -> str:
    """A record in short; attributes that are set go without saying."""
    path = record.path.decode() or "."
    if record.kind is Kind.SETATTR:
        return ""
    if record.kind in (Kind.RENAME, Kind.LINK):
        return f"{record.kind.name} {path} {record.other.decode()}"
    if record.kind is Kind.CREATE:
        return f"CREATE {path} {bytes(record.data).decode()}"
    return f"{record.kind.name} {path}"


def _differences(here: Path, there: Node, shown: str, seen: dict[int, int]) -> Iterator[str]:
    status = here.lstat()
    if (status.st_mode, status.st_mtime_ns) != (there.meta.mode, there.meta.mtime_ns) and shown:
        yield f"{shown}: attributes"
    if seen.setdefault(status.st_ino, there.ino) != there.ino:
        yield f"{shown}: another object"
    if stat.S_ISREG(status.st_mode) and here.read_bytes() != there.data:
        yield f"{shown}: content"
    if not stat.S_ISDIR(status.st_mode):
        return
    names = {os.fsencode(name) for name in os.listdir(here)}
    yield from (f"{shown}/{name.decode()}: missing" for name in sorted(names - there.entries.keys()))
    yield from (f"{shown}/{name.decode()}: too many" for name in sorted(there.entries.keys() - names))
    for name in sorted(names & there.entries.keys()):
        below = f"{shown}/{name.decode()}"
        yield from _differences(here / name.decode(), there.entries[name], below, seen)
