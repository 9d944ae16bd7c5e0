"""A directory of this machine and its twin in memory are held to the contract of all trees; and the check finds trees
that break it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from i2_sink_fs.plugin import i2_sinks

from i2core.api import Batch, DriverSpec, Entry, NoConfig, Record, SinkContext, Xattrs
from i2core.api.inode_flags import UNREAD
from i2core.api.tree import OpenDirectory, OpenFile, Unread, raise_it
from i2core.posix.tree import LocalTree
from i2core.testing import check_tree
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import memory_sink
from i2core.testing.memory_tree import MemoryDirectory, MemoryFile, MemoryTree
from i2core.testing.tree import OpenTree

ROOT = b"/source"


async def apply(spec: DriverSpec, root: bytes, records: Sequence[Record]) -> None:
    """Makes a tree with a sink."""
    async with spec.open(NoConfig(), SinkContext(roots=(root,), allowed=(root,))) as sink:
        assert not (await sink.apply(Batch(1, records))).failures
        await sink.flush()


async def test_a_directory_keeps_the_contract(tmp_path: Path) -> None:
    (spec,) = i2_sinks()
    root = os.fsencode(tmp_path)

    async def make(records: Sequence[Record]) -> OpenTree:
        await apply(spec, root, records)
        return partial(LocalTree, root)

    await check_tree(make)


async def check_memory(kind: type[MemoryTree]) -> None:
    """Checks trees of that class."""
    disk = MemoryDisk()

    async def make(records: Sequence[Record]) -> OpenTree:
        await apply(memory_sink(disk), ROOT, records)
        return partial(kind, disk, ROOT)

    await check_tree(make)


async def test_memory_keeps_the_contract() -> None:
    await check_memory(MemoryTree)


# ------------------------------------------------------------------------------------------ trees that do not


class ForgetsLast(MemoryDirectory):
    def listing(self, most: int, unread: Unread = raise_it) -> Iterator[list[Entry]]:
        *parts, last = super().listing(most, unread)
        yield from parts
        yield last[:-1]


class ListsAllAtOnce(MemoryDirectory):
    def listing(self, most: int, unread: Unread = raise_it) -> Iterator[list[Entry]]:
        return super().listing(1 << 30, unread)


class ListsEverywhereTheSame(MemoryTree):
    def directory(self, path: bytes) -> OpenDirectory:
        return super().directory(b"" if self.only else path)


class FollowsSymlinks(MemoryTree):
    def directory(self, path: bytes) -> OpenDirectory:
        return super().directory(path.replace(b"trap", b"dir"))


class AnswersForMissingNames(MemoryTree):
    def lookup(self, path: bytes) -> Entry | None:
        return super().lookup(path) or super().lookup(b"file")


class NumbersByName(MemoryDirectory):
    def entry(self, name: bytes) -> Entry | None:
        found = super().entry(name)
        return None if found is None else found._replace(ino=hash(name))


class CountsNoNames(MemoryDirectory):
    def entry(self, name: bytes) -> Entry | None:
        found = super().entry(name)
        return None if found is None else found._replace(nlink=1)


class NamesItself(MemoryDirectory):
    def here(self) -> Entry:
        return super().here()._replace(name=b".")


class OpensAnything(MemoryDirectory):
    def open(self, name: bytes) -> OpenFile:
        return MemoryFile(self._disk, self._node.entries.get(name) or self._node, name)


class HasUnsortedAttributes(MemoryDirectory):
    def xattrs(self, name: bytes) -> Xattrs | None:
        return tuple(reversed(super().xattrs(name) or ()))


class NeverReadsFlags(MemoryDirectory):
    def entry(self, name: bytes) -> Entry | None:
        found = super().entry(name)
        return None if found is None else found._replace(flags=UNREAD)


class ReadsFromTheStart(MemoryFile):
    def read(self, start: int, length: int) -> memoryview:
        return super().read(0, length)


class PadsWithZeros(MemoryFile):
    def read(self, start: int, length: int) -> memoryview:
        return memoryview(bytes(super().read(start, length)).ljust(length, b"\0"))


class HasHolesForData(MemoryFile):
    def next_data(self, at: int) -> int | None:
        return None


class IgnoresWhatWasGiven(MemoryFile):
    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return super().as_opened()


DIRECTORIES: Sequence[type[MemoryDirectory]] = (
    ForgetsLast,
    ListsAllAtOnce,
    NumbersByName,
    CountsNoNames,
    NamesItself,
    OpensAnything,
    HasUnsortedAttributes,
    NeverReadsFlags,
)
FILES: Sequence[type[MemoryFile]] = (ReadsFromTheStart, PadsWithZeros, HasHolesForData, IgnoresWhatWasGiven)
TREES: Sequence[type[MemoryTree]] = (ListsEverywhereTheSame, FollowsSymlinks, AnswersForMissingNames)


@pytest.mark.parametrize("broken", DIRECTORIES)
async def test_a_broken_directory_is_found(monkeypatch: pytest.MonkeyPatch, broken: type[MemoryDirectory]) -> None:
    monkeypatch.setattr("i2core.testing.memory_tree.MemoryDirectory", broken)
    with pytest.raises(AssertionError):
        await check_memory(MemoryTree)


@pytest.mark.parametrize("broken", FILES)
async def test_a_broken_file_is_found(monkeypatch: pytest.MonkeyPatch, broken: type[MemoryFile]) -> None:
    monkeypatch.setattr("i2core.testing.memory_tree.MemoryFile", broken)
    with pytest.raises(AssertionError):
        await check_memory(MemoryTree)


@pytest.mark.parametrize("broken", TREES)
async def test_a_broken_tree_is_found(broken: type[MemoryTree]) -> None:
    with pytest.raises(AssertionError):
        await check_memory(broken)
