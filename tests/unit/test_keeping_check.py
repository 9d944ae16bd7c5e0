"""`check_keeping` finds sinks that destroy what a history needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest

from i2core.api import Applied, Batch, Kind, NoConfig, Record, Sink, SinkContext
from i2core.testing.memory_disk import MemoryDisk, Node
from i2core.testing.memory_sink import MemorySink, memory_sink
from i2core.testing.sink.keeping import check_keeping


async def check(kind: type[MemorySink], top: Path) -> None:
    """Checks sinks of that class."""
    disk = MemoryDisk()

    @asynccontextmanager
    async def opened(config: NoConfig, context: SinkContext) -> AsyncIterator[Sink]:
        yield kind(context, disk)

    await check_keeping(attrs.evolve(memory_sink(disk), open=opened), NoConfig(), top)


async def test_the_twin_keeps_the_contract(tmp_path: Path) -> None:
    await check(MemorySink, tmp_path)


class KeepsNoTrees(MemorySink):
    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        if name in directory.entries and directory.entries[name].is_dir:
            path = b"another"
        super()._lose(directory, name, path)


class KeepsOnlyWhatIsRemoved(MemorySink):
    def _put(self, record: Record, node: Node) -> None:
        directory, name = self._locate(record.root, record.path)
        directory.entries[name] = node


class KeepsNothingThatARenameReplaces(MemorySink):
    def _rename(self, record: Record) -> None:
        self._keeps = {}
        super()._rename(record)


class KeepsNothingOfARoot(MemorySink):
    def _remove(self, record: Record) -> None:
        if not record.path:
            self._keeps = {}
        super()._remove(record)


class KeepsACopy(MemorySink):
    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        if name in directory.entries and path in self._keeps:
            self._disk.last_ino += 1
            directory.entries[name] = attrs.evolve(directory.entries[name], ino=self._disk.last_ino)
        super()._lose(directory, name, path)


class KeepsTheTopAlone(MemorySink):
    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        if name in directory.entries and path in self._keeps:
            directory.entries[name].entries.clear()
        super()._lose(directory, name, path)


class KeepsTheLatest(MemorySink):
    """A record that is applied again puts what it has made into the store."""

    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        if name in directory.entries and path in self._keeps and self._store is not None:
            self._store.entries.pop(b"%d" % self._keeps[path], None)
        super()._lose(directory, name, path)


class KeepsByThePathOfTheRecord(MemorySink):
    """A rename's object is at the other path."""

    def _rename(self, record: Record) -> None:
        self._keeps = {record.other: self._keeps[record.path]} if record.path in self._keeps else {}
        super()._rename(record)


class RemovesAllNames(MemorySink):
    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        gone = directory.entries.get(name)
        super()._lose(directory, name, path)
        for other in [other for other, node in directory.entries.items() if node is gone]:
            del directory.entries[other]


class HasAStoreForEachRoot(MemorySink):
    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        if directory is not self._roots[0] and directory in self._roots:
            self._store = self._disk.store(self._context.roots[1])
        super()._lose(directory, name, path)


class GoesOnAfterAFailure(MemorySink):
    async def apply(self, batch: Batch) -> Applied:
        if batch.keeps is None:
            return await super().apply(batch)
        done = Applied(batch.last_seq)
        for at, record in enumerate(batch.records):
            one = await super().apply(Batch(batch.first_seq + at, [record], [batch.keeps[at]]))
            done = done._replace(failures=done.failures + one.failures, made={**done.made, **one.made})
        return done


class SaysNothing(MemorySink):
    async def apply(self, batch: Batch) -> Applied:
        return (await super().apply(batch))._replace(made={})


class SaysMadeForEveryName(MemorySink):
    def _put(self, record: Record, node: Node) -> None:
        super()._put(record, node)
        if record.kind is Kind.LINK:
            self._fresh.append(node)


class SaysMadeForADirectoryThatIsThere(MemorySink):
    def _mkdir(self, record: Record) -> None:
        super()._mkdir(record)
        directory, name = self._locate(record.root, record.path)
        self._fresh.append(directory.entries[name])


class SaysMadeWithoutAHistory(MemorySink):
    async def apply(self, batch: Batch) -> Applied:
        return await super().apply(batch._replace(keeps=batch.keeps or [{} for _ in batch.records]))


class KeepsWhenNothingWasMade(MemorySink):
    """What is to be replaced goes into the store before it is known that the record fails."""

    def _rename(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.other)
        self._lose(directory, name, record.other)
        super()._rename(record)


class ShowsTheStore(MemorySink):
    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        super()._lose(directory, name, path)
        if self._store is not None and self._store.entries:
            self._roots[0].entries[b".i2-history"] = self._store


BROKEN = [kind for kind in list(globals().values()) if isinstance(kind, type) and issubclass(kind, MemorySink)]


@pytest.mark.parametrize("kind", [kind for kind in BROKEN if kind is not MemorySink])
async def test_a_sink_that_breaks_the_contract_is_found(kind: type[MemorySink], tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        await check(kind, tmp_path)
