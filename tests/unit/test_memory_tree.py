"""A tree in memory is mirrored to a replica in memory: nothing that reads the source needs a disk."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from i2core.api import Batch, Channel, DriverKind, DriverSpec, Kind, Place, Record, SinkContext, UsageError
from i2core.api.tree import RootGone
from i2core.config.model import BackupRole, DriverChoice, OnError
from i2core.drivers.chain import CodecChain, FilterChain
from i2core.rule.backup.service import BackupService
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.life.status import RuleStatus
from i2core.rule.mirror.mirror import mirror
from i2core.rule.source.source import Source
from i2core.rule.survey.lister import Scope
from i2core.tasks import background
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import MemorySink, memory_sink
from i2core.testing.memory_tree import MemoryTree
from i2core.testing.picture import meta_of, picture
from i2core.wire.batch import SeqCounter
from i2core.wire.messages import BrakeLimits, Hello, OrphanPolicy
from i2core.wire.session import Session, open_session

SOURCE, REPLICA = b"/source", b"/replica"
FILE, DIR, LINK = stat.S_IFREG | 0o640, stat.S_IFDIR | 0o750, stat.S_IFLNK | 0o777
LARGE = bytes(range(256)) * 20_000


class Only:
    """A registry with one driver."""

    def __init__(self, spec: DriverSpec) -> None:
        self._spec = spec

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """That one."""
        if (kind, name) != (self._spec.kind, self._spec.name):
            raise UsageError(f"no {kind.value} {name}")
        return self._spec

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """That one, by its name."""
        return {self._spec.name: self._spec} if kind is self._spec.kind else {}


def sink(disk: MemoryDisk, root: bytes) -> MemorySink:
    """Writes to a directory of the disk."""
    return MemorySink(SinkContext(roots=(root,), allowed=(root,)), disk)


async def fill(disk: MemoryDisk) -> None:
    """Objects of all types."""
    meta = meta_of(FILE, xattrs=((b"user.name", b"value"),))
    records = [
        Record(Kind.MKDIR, 0, b"", meta=meta_of(DIR)),
        Record(Kind.CREATE, 0, b"small", meta=meta, data=b"content"),
        Record(Kind.MKDIR, 0, b"dir", meta=meta_of(DIR)),
        Record(Kind.LINK, 0, b"dir/second", other=b"small"),
        Record(Kind.SYMLINK, 0, b"dir/link", other=b"../small", meta=meta_of(LINK)),
        Record(Kind.MKNOD, 0, b"dir/fifo", meta=meta_of(stat.S_IFIFO | 0o600)),
        Record(Kind.CREATE, 0, b"dir/large", meta=meta_of(FILE), data=LARGE),
        *(Record(Kind.CREATE, 0, b"dir/%d" % each, meta=meta_of(FILE), data=b"%d" % each) for each in range(2000)),
    ]
    assert not (await sink(disk, SOURCE).apply(Batch(1, records))).failures


@asynccontextmanager
async def session_to(disk: MemoryDisk, state_dir: Path) -> AsyncIterator[Session]:
    """A session with a backup node whose replicas are on the disk."""
    role = BackupRole(allow_roots=(REPLICA,), sink=DriverChoice(name="memory"), plaintext=True)
    service = BackupService(role, registry=Only(memory_sink(disk)), state_dir=state_dir, say=lambda *_: None)
    hello = Hello(
        version="0",
        rule="data1",
        channel=Channel.MIRROR.value,
        epoch=1,
        targets=[REPLICA.decode()],
        codecs=[],
        orphans=OrphanPolicy(),
        brake=BrakeLimits(share=0.5, window_s=60, least=1000),
    )
    here, there = trio.testing.memory_stream_pair()
    async with background() as nursery:
        nursery.start_soon(service.handle, there, Channel.MIRROR, None)
        async with open_session(
            here, hello, CodecChain(()), SeqCounter(), on_ack=lambda _: None, on_hold=lambda _: None
        ) as session:
            yield session


async def mirrored(disk: MemoryDisk, state_dir: Path, *, strict: bool = False) -> RuleStatus:
    """Mirrors `SOURCE` to `REPLICA`."""
    catalog, status = Catalog(None), RuleStatus(name="data1")
    source = Source(
        rule="data1",
        trees=[MemoryTree(disk, SOURCE)],
        filter=FilterChain(()),
        catalog=catalog,
        status=status,
        on_error=OnError.STOP,
        say=lambda *_: None,
    )
    try:
        async with session_to(disk, state_dir) as session:
            await mirror(source, session, [Scope(Place(0, b""))], strict=strict)
            await session.settle()
    finally:
        catalog.close(clean=False)
    return status


async def test_a_mirror_from_memory_to_memory(tmp_path: Path) -> None:
    disk = MemoryDisk()
    await fill(disk)
    await mirrored(disk, tmp_path)
    expected = await picture(sink(disk, SOURCE))
    assert len(expected) == 2006
    assert await picture(sink(disk, REPLICA)) == expected
    assert (await mirrored(disk, tmp_path, strict=True)).sent_files == 0


async def test_only_what_differs_is_sent(tmp_path: Path) -> None:
    disk = MemoryDisk()
    await fill(disk)
    await mirrored(disk, tmp_path)
    changes = [
        Record(Kind.WRITE, 0, b"dir/large", offset=70_000, data=b"changed"),
        Record(Kind.SETATTR, 0, b"dir/large", meta=meta_of(FILE, mtime_ns=1)),
        Record(Kind.CREATE, 0, b"new", meta=meta_of(FILE), data=b"new"),
    ]
    assert not (await sink(disk, SOURCE).apply(Batch(1, changes))).failures
    status = await mirrored(disk, tmp_path)
    assert (status.sent_files, status.sent_bytes < 100_000) == (2, True)
    assert await picture(sink(disk, REPLICA)) == await picture(sink(disk, SOURCE))


def test_a_root_that_is_gone() -> None:
    disk = MemoryDisk()
    tree = MemoryTree(disk, SOURCE)
    disk.roots.pop(SOURCE)
    disk.directory(SOURCE)
    assert not tree.is_present()
    assert tree.lookup(b"") is None
    for read in (tree.directory, tree.lookup):
        with pytest.raises(RootGone):
            read(b"dir")
