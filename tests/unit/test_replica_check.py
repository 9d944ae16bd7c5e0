"""Plain files and the twin in memory are held to the contract of `Replica`; and the check finds replicas that break
it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from i2_sink_fs.plugin import i2_sinks
from i2_sink_fs.present.replica import FsReplica
from i2_sink_fs.roots import Roots

from i2core.api import Batch, NoConfig, Record, SinkContext
from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle, Identity
from i2core.api.records import Buffer, Meta
from i2core.testing import MemoryReplica, check_replica
from i2core.testing.replica import Open


async def test_plain_files_keep_the_contract(tmp_path: Path) -> None:
    (spec,) = i2_sinks()
    numbers = itertools.count()

    async def make(records: Sequence[Record]) -> Open:
        top = os.fsencode(tmp_path / str(next(numbers)))
        os.mkdir(top)
        context = SinkContext(roots=(top + b"/first", top + b"/second"), allowed=(top,), secret=bytes(32))
        async with spec.open(NoConfig(), context) as sink:
            assert not (await sink.apply(Batch(1, records))).failures
            await sink.flush()

        @contextmanager
        def opened() -> Iterator[FsReplica]:
            with FsReplica(context, Roots(context.roots, context.allowed, {})) as replica:
                yield replica
                assert not replica.open_handles

        return opened

    await check_replica(make)


async def check_memory(kind: type[MemoryReplica]) -> None:
    """Checks replicas of that class."""

    async def make(records: Sequence[Record]) -> Open:
        replica = kind(roots=2)
        replica.apply(records)
        return lambda: nullcontext(replica)

    await check_replica(make)


async def test_memory_keeps_the_contract() -> None:
    await check_memory(MemoryReplica)


# ------------------------------------------------------------------------------------------ replicas that do not


class ClosesTheStore(MemoryReplica):
    def directory(self, oid: int) -> Handle:
        return self.opened(self._open[oid])


class FollowsSymlinks(MemoryReplica):
    def child(self, directory: Handle, name: bytes) -> Handle | None:
        inode = self.at(directory)
        if inode.target:
            return super().child(self.opened(self.root.entries[inode.target]), name)
        return super().child(directory, name)


class WalksPaths(MemoryReplica):
    def child(self, directory: Handle, name: bytes) -> Handle | None:
        if b"/" not in name or directory == STAGING:
            return super().child(directory, name)
        for part in name.split(b"/"):
            found = super().child(directory, part)
            if found is None:
                return None
            directory = found
        return directory


class ForgetsAName(MemoryReplica):
    def names(self, directory: Handle) -> Iterable[bytes]:
        return list(super().names(directory))[:-1]


class ShowsTheStore(MemoryReplica):
    def names(self, directory: Handle) -> Iterable[bytes]:
        store = [b".i2-history"] if self.at(directory) is self.root and self.store.entries else []
        return [*super().names(directory), *store]


class NumbersTheHandle(MemoryReplica):
    def facts(self, handle: Handle) -> Facts:
        return super().facts(handle)._replace(identity=Identity(1, handle, 0))


class HasOneIdentity(MemoryReplica):
    def facts(self, handle: Handle) -> Facts:
        return super().facts(handle)._replace(identity=Identity(1, 1, 0))


class ReadsNoAttributes(MemoryReplica):
    def facts(self, handle: Handle) -> Facts:
        found = super().facts(handle)
        return found._replace(meta=found.meta._replace(xattrs=()))


class CountsNoLinks(MemoryReplica):
    def links(self, inode: object) -> int:
        return 1


class PadsWithZeros(MemoryReplica):
    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        return super().read(handle, lo, min(hi, 1 << 20)).ljust(min(hi, 1 << 20) - lo, b"\0")


class HasNoHoles(MemoryReplica):
    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        return (extent._replace(hole=False) for extent in super().extents(handle, lo, hi))


class HasHolesAfterTheEnd(MemoryReplica):
    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        yield from super().extents(handle, lo, hi)
        if hi > (size := len(self.at(handle).data)):
            yield Extent(max(lo, size), hi, True)


class LeavesOutHoles(MemoryReplica):
    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        return (extent for extent in super().extents(handle, lo, hi) if not extent.hole)


class CopiesWhatMoves(MemoryReplica):
    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        old = self.at(directory).entries.get(name)
        super().move(directory, name, target, new)
        if old is not None:
            copy = self.at(target).entries[new] = self.inode(old.meta, old.target)
            copy.data, copy.alloc, copy.entries = bytearray(old.data), set(old.alloc), old.entries


class LeavesTheOldName(MemoryReplica):
    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        old = self.at(directory).entries.get(name)
        super().move(directory, name, target, new)
        if old is not None:
            self.at(directory).entries[name] = old


class ReplacesWhatIsThere(MemoryReplica):
    @staticmethod
    def _check_free(directory: object, name: bytes) -> None:
        """Nobody asks."""


class MovesOnlyOnce(MemoryReplica):
    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        if name not in self.at(directory).entries:
            raise FileNotFoundError(name)
        super().move(directory, name, target, new)


class LinksCopies(MemoryReplica):
    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        old = self.at(handle)
        copy = self.at(target).entries.setdefault(new, self.inode(old.meta, old.target))
        copy.data = bytearray(old.data)


class RemovesAllNames(MemoryReplica):
    def remove(self, directory: Handle, name: bytes) -> None:
        gone = self.at(directory).entries.get(name)
        waiting = [self.top]
        while waiting:
            entries = waiting.pop().entries
            for each in [name for name, node in entries.items() if node is gone]:
                del entries[each]
            waiting += entries.values()
        super().remove(directory, name)


class RemovesWhatIsThere(MemoryReplica):
    def remove(self, directory: Handle, name: bytes) -> None:
        if name not in self.at(directory).entries:
            raise FileNotFoundError(name)
        super().remove(directory, name)


class OnlyCuts(MemoryReplica):
    def truncate(self, handle: Handle, size: int) -> None:
        super().truncate(handle, min(size, len(self.at(handle).data)))


class GrowsByZeros(MemoryReplica):
    def truncate(self, handle: Handle, size: int) -> None:
        old = len(self.at(handle).data)
        super().truncate(handle, size)
        super().write(handle, old, bytes(max(0, size - old)))


class Appends(MemoryReplica):
    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        super().write(handle, len(self.at(handle).data), data)


class CutsAfterWhatIsWritten(MemoryReplica):
    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        super().write(handle, lo, data)
        super().truncate(handle, lo + len(data))


class PunchesWithZeros(MemoryReplica):
    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        super().write(handle, lo, bytes(min(hi, len(self.at(handle).data)) - lo))


class PunchesWholeBlocksAlone(MemoryReplica):
    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        super().punch(handle, -(-lo // self.hole) * self.hole, hi // self.hole * self.hole)


class PunchesBeyondTheEnd(MemoryReplica):
    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        super().punch(handle, lo, hi)
        super().truncate(handle, max(hi, len(self.at(handle).data)))


class SetsTheModeAlone(MemoryReplica):
    def set_meta(self, handle: Handle, meta: Meta) -> None:
        super().set_meta(handle, self.at(handle).meta._replace(mode=meta.mode))


class SetsTheTimeFirst(MemoryReplica):
    def set_meta(self, handle: Handle, meta: Meta) -> None:
        super().set_meta(handle, meta._replace(mtime_ns=meta.mtime_ns + 1))


class KeepsOldAttributes(MemoryReplica):
    def set_meta(self, handle: Handle, meta: Meta) -> None:
        old = dict(self.at(handle).meta.xattrs or ())
        super().set_meta(handle, meta._replace(xattrs=tuple(sorted({**old, **dict(meta.xattrs or ())}.items()))))


class LosesTheStoreWithAFlush(MemoryReplica):
    def flush(self) -> None:
        self.store.entries.clear()


class StagesInTheReplica(MemoryReplica):
    def child(self, directory: Handle, name: bytes) -> Handle | None:
        found = super().child(directory, name)
        return found if found is not None or directory in (TOP, STORE, STAGING) else self._staged(directory, name)

    def _staged(self, directory: Handle, name: bytes) -> Handle | None:
        staged = self.staging.entries.get(b"0/dir/" + name)
        return self.opened(staged) if staged and self.at(directory) is self.root.entries.get(b"dir") else None


BROKEN: Sequence[type[MemoryReplica]] = tuple(
    each for each in list(globals().values()) if isinstance(each, type) and MemoryReplica in each.__bases__
)


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_replica_is_found(broken: type[MemoryReplica]) -> None:
    with pytest.raises(AssertionError):
        await check_memory(broken)
