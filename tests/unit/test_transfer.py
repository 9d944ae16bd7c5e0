"""The transfer of one large file, with a real file and catalog, and a sender that applies records to bytes in memory.
Whatever happens to the file between two slices, the replica has either the content that was read, or nothing of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from i2core.api import BLOCK_BYTES, Kind, LinkError, Place, Record
from i2core.api.blockmap import BlockMap
from i2core.api.content import digests
from i2core.api.records import Buffer
from i2core.config.model import OnError
from i2core.drivers.chain import FilterChain
from i2core.posix.tree import LocalTree
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Row
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.scan import Scan, scan
from i2core.rule.source.source import Source
from i2core.rule.source.transfer import SEND_BYTES, Task, Transfer
from i2core.wire.batch import EncodedBatch, WireBatch
from i2core.wire.frame import FrameType
from i2core.wire.questions import HashQuery

SIZE = 3 * SEND_BYTES
TOP, BIG = Place(0, b""), Place(0, b"d/big")


class Replica:
    """Files and staging files as bytes, changed by the records that are handed over; answers questions for digests.
    Nothing is numbered or encoded."""

    def __init__(self) -> None:
        self.files: dict[bytes, bytearray] = {}
        self.staged: dict[bytes, bytearray] = {}
        self.modified: dict[bytes, int] = {}
        self.kinds: list[Kind] = []
        self.asked: list[tuple[int, bool]] = []
        self.cut = False
        """The link is cut: every request fails."""

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        """Applies them at once."""
        for record in records:
            self.kinds.append(record.kind)
            self._apply(record)
        return []

    def _apply(self, record: Record) -> None:
        there = self.staged if record.staged else self.files
        if record.kind is Kind.STAGE:
            self.staged[record.path] = self.staged.get(record.path, bytearray()) if record.size else bytearray()
        elif record.kind is Kind.REMOVE:
            there.pop(record.path, None)
        elif record.kind in (Kind.WRITE, Kind.PUNCH):
            data = record.data if record.kind is Kind.WRITE else bytes(record.size)
            file = there[record.path]
            file.extend(bytes(max(0, record.offset + len(data) - len(file))))
            file[record.offset : record.offset + len(data)] = data
        elif record.kind is Kind.PUBLISH:
            self.files[record.path] = _cut(self.staged.pop(record.path), record.size)
        elif record.kind is Kind.TRUNCATE:
            self.files[record.path] = _cut(self.files[record.path], record.size)
        if record.meta is not None and record.kind in (Kind.PUBLISH, Kind.SETATTR):
            self.modified[record.path] = record.meta.mtime_ns

    async def send(self, packed: WireBatch) -> None:
        """Nothing is packed."""

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Digests of what is there."""
        if self.cut:
            raise LinkError("cut")
        query = HashQuery.decode(payload)
        self.asked.append((query.first, query.staged))
        there = self.staged if query.staged else self.files
        content = memoryview(bytes(there.get(query.path, b"")))[query.first * BLOCK_BYTES :]
        found = b"".join(digests(content[: query.blocks * BLOCK_BYTES]))

        async def answer() -> Buffer:
            return BlockMap(found).encode() if query.runs else found

        return answer


def _cut(content: bytearray, size: int) -> bytearray:
    return content[:size] + bytes(max(0, size - len(content)))


class Nodes:
    """The source in a directory, and its replica."""

    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "d").mkdir()
        self.path = tmp_path / "d" / "big"
        self.path.write_bytes(os.urandom(SIZE))
        self.tree = LocalTree(os.fsencode(tmp_path))
        self.catalog = Catalog(None)
        self.status = RuleStatus(name="r")
        self.source = Source(
            rule="r",
            trees=[self.tree],
            filter=FilterChain([]),
            catalog=self.catalog,
            status=self.status,
            on_error=OnError.LOG,
            say=lambda rule, code, line: None,
        )
        self.replica = Replica()
        self.rows: list[Row] = []
        self.note(TOP)
        self.note(TOP.child(b"d"))

    def close(self) -> None:
        self.catalog.close(clean=False)
        self.tree.close()

    def note(self, place: Place) -> Row:
        """Notes the object at the place in the catalog."""
        entry = self.tree.lookup(place.path)
        assert entry is not None
        return self.catalog.objects.put(place, entry)

    def synced(self, *, known: bool) -> None:
        """The replica has the file. `known`: the catalog has the digests of it."""
        content = self.path.read_bytes()
        self.replica.files[BIG.path] = bytearray(content)
        row = self.note(BIG)
        if known:
            self.catalog.digests.put(row.key, 0, BlockMap(b"".join(digests(memoryview(content)))))

    def transfer(self, *, whole: bool, trust: bool = True, first: int = 0) -> Transfer:
        task = Task(place=BIG, whole=whole, trust=trust, first=first, inode=self.path.stat().st_ino)
        return Transfer(self.source, self.replica, task, on_row=self.rows.append)

    @property
    def equal(self) -> bool:
        """True when the replica's file has the content of the source's file."""
        return bytes(self.replica.files.get(BIG.path, b"")) == self.path.read_bytes()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.close()


async def finish(transfer: Transfer) -> None:
    try:
        while not transfer.done:
            await transfer.step()
    finally:
        transfer.close()


async def test_a_new_file_appears_whole(nodes: Nodes) -> None:
    transfer = nodes.transfer(whole=True)
    await transfer.step()
    assert BIG.path in nodes.replica.staged
    assert BIG.path not in nodes.replica.files
    assert nodes.catalog.objects.get(BIG) is None
    await finish(transfer)
    assert nodes.equal
    assert nodes.replica.staged == {}
    assert not nodes.replica.asked
    assert nodes.catalog.objects.get(BIG) == nodes.rows[-1]
    assert transfer.brought == nodes.path.stat().st_ino


async def test_all_slices_in_one_go(nodes: Nodes) -> None:
    await nodes.transfer(whole=True).run()
    assert nodes.equal


async def test_only_what_differs_is_sent(nodes: Nodes) -> None:
    nodes.synced(known=True)
    with nodes.path.open("r+b") as file:
        file.seek(5 * BLOCK_BYTES)
        file.write(b"new")
    await finish(nodes.transfer(whole=False))
    assert nodes.equal
    assert nodes.status.sent_bytes == BLOCK_BYTES
    assert not nodes.replica.asked


async def test_digests_that_the_catalog_lacks_are_asked_for(nodes: Nodes) -> None:
    nodes.synced(known=False)
    with nodes.path.open("r+b") as file:
        file.write(b"new")
    await finish(nodes.transfer(whole=False))
    assert nodes.equal
    assert nodes.status.sent_bytes == BLOCK_BYTES
    assert nodes.replica.asked == [(0, False)]


async def test_what_may_not_be_trusted_is_asked_for_though_the_catalog_has_it(nodes: Nodes) -> None:
    nodes.synced(known=True)
    nodes.replica.files[BIG.path][0] ^= 1
    await finish(nodes.transfer(whole=False, trust=False))
    assert nodes.equal


async def test_it_grows_meanwhile(nodes: Nodes) -> None:
    transfer = nodes.transfer(whole=True)
    await transfer.step()
    with nodes.path.open("ab") as file:
        file.write(os.urandom(SEND_BYTES))
    await finish(transfer)
    assert nodes.equal


async def test_it_shrinks_meanwhile(nodes: Nodes) -> None:
    transfer = nodes.transfer(whole=True)
    await transfer.step()
    os.truncate(nodes.path, BLOCK_BYTES + 1)
    await finish(transfer)
    assert nodes.equal
    row = nodes.catalog.objects.get(BIG)
    assert row is not None
    assert (row.size, nodes.catalog.digests.known(row.key)) == (BLOCK_BYTES + 1, 1)


async def test_it_shrinks_while_it_is_patched(nodes: Nodes) -> None:
    nodes.synced(known=True)
    nodes.path.write_bytes(os.urandom(SIZE))
    transfer = nodes.transfer(whole=False)
    await transfer.step()
    os.truncate(nodes.path, 1)
    await finish(transfer)
    assert nodes.equal


async def test_a_write_to_what_was_read_shows_as_newer(nodes: Nodes) -> None:
    transfer = nodes.transfer(whole=True)
    before_ns = nodes.path.stat().st_mtime_ns
    await transfer.step()
    with nodes.path.open("r+b") as file:
        file.write(b"too late")
    os.utime(nodes.path, ns=(before_ns + 1, before_ns + 1))
    await finish(transfer)
    assert not nodes.equal
    row, entry = nodes.catalog.objects.get(BIG), nodes.tree.lookup(BIG.path)
    assert row is not None
    assert entry is not None
    assert nodes.replica.modified[BIG.path] == before_ns
    assert not row.same_content(entry)
    assert not transfer.reads(entry)


@pytest.mark.parametrize("whole", [True, False])
async def test_it_is_replaced_meanwhile(nodes: Nodes, whole: bool) -> None:
    if not whole:
        nodes.synced(known=True)
        nodes.path.write_bytes(os.urandom(SIZE))
    transfer = nodes.transfer(whole=whole)
    await transfer.step()
    before = bytes(nodes.replica.files.get(BIG.path, b""))
    other = nodes.path.with_name("other")
    other.write_bytes(b"another file")
    other.replace(nodes.path)
    await finish(transfer)
    assert transfer.brought == 0
    assert nodes.replica.staged == {}
    assert nodes.catalog.staging.places == set()
    assert bytes(nodes.replica.files.get(BIG.path, b"")) == before
    row = nodes.catalog.objects.get(BIG)
    assert row is None if whole else row is not None and row.unverified


async def test_another_object_is_sent_for_the_name_meanwhile(nodes: Nodes) -> None:
    """`rm a; create big`: the file has the inode number of `a`, so a check of `big` sends `a` as a rename to it. The
    staging file goes with that, and what is left of the transfer may not be written into the object."""
    transfer = nodes.transfer(whole=True)
    await transfer.step()
    renamed = Record(Kind.RENAME, 0, b"d/a", other=BIG.path)
    nodes.replica.files[BIG.path] = bytearray(b"what was a")
    nodes.replica.pack(nodes.source.superseding(BIG, [renamed]))
    await finish(transfer)
    assert nodes.replica.files == {BIG.path: bytearray(b"what was a")}
    assert nodes.replica.staged == {}
    assert transfer.brought == 0


async def test_another_file_takes_the_name_before_it_is_opened(nodes: Nodes) -> None:
    """Patched in place, it would appear under all names of the previous file."""
    nodes.synced(known=True)
    transfer = nodes.transfer(whole=False)
    other = nodes.path.with_name("other")
    other.write_bytes(os.urandom(SIZE))
    other.replace(nodes.path)
    await finish(transfer)
    assert nodes.equal
    assert nodes.replica.kinds[0] is Kind.STAGE
    assert nodes.replica.kinds[-1] is Kind.PUBLISH


async def test_a_directory_above_is_renamed_meanwhile(nodes: Nodes) -> None:
    transfer = nodes.transfer(whole=True)
    await transfer.step()
    nodes.path.parent.rename(nodes.path.parent.with_name("e"))
    directory = nodes.catalog.objects.get(BIG.above)
    assert directory is not None
    moved = Place(0, b"e/big")
    nodes.catalog.objects.move(directory, moved.above)
    nodes.replica.staged[moved.path] = nodes.replica.staged.pop(BIG.path)
    await finish(transfer)
    assert transfer.place == moved
    assert bytes(nodes.replica.files[moved.path]) == (nodes.path.parent.with_name("e") / "big").read_bytes()
    assert nodes.catalog.objects.get(moved) is not None


async def test_the_file_itself_is_renamed_meanwhile(nodes: Nodes) -> None:
    """The rename has a hint of its own; the staging file under the old name is removed."""
    transfer = nodes.transfer(whole=True)
    await transfer.step()
    nodes.path.rename(nodes.path.with_name("elsewhere"))
    await finish(transfer)
    assert (nodes.replica.files, nodes.replica.staged) == ({}, {})


async def test_it_is_gone_before_it_is_opened(nodes: Nodes) -> None:
    transfer = nodes.transfer(whole=True)
    nodes.path.unlink()
    await finish(transfer)
    assert nodes.replica.kinds == []
    assert nodes.catalog.staging.places == set()


async def test_a_tail_alone_leaves_the_rest_to_the_next_look(nodes: Nodes) -> None:
    nodes.synced(known=True)
    with nodes.path.open("ab") as file:
        file.write(b"tail")
    await finish(nodes.transfer(whole=False, first=SIZE))
    assert nodes.equal
    row, entry = nodes.catalog.objects.get(BIG), nodes.tree.lookup(BIG.path)
    assert row is not None
    assert entry is not None
    assert row.same_content(entry)
    assert not row.untouched(entry)


@pytest.mark.parametrize("whole", [True, False])
async def test_it_ends_in_the_middle(nodes: Nodes, whole: bool) -> None:
    """The link is cut: the catalog does not say that the replica's file is equal, and it notes that there may be a
    staging file."""
    nodes.synced(known=False)
    nodes.path.write_bytes(os.urandom(SIZE))
    transfer = nodes.transfer(whole=whole, trust=False)
    await transfer.step()
    if not whole:
        nodes.replica.cut = True
        with pytest.raises(LinkError):
            await finish(transfer)
    transfer.close()
    row, entry = nodes.catalog.objects.get(BIG), nodes.tree.lookup(BIG.path)
    assert row is not None
    assert entry is not None
    assert not row.same_content(entry)
    assert row.unverified == (not whole)
    assert nodes.catalog.staging.places == ({BIG} if whole else set())


async def test_the_other_name_of_a_published_file_becomes_a_link(nodes: Nodes) -> None:
    other = BIG.above.child(b"other")
    nodes.path.with_name("other").hardlink_to(nodes.path)
    nodes.note(other)
    transfer = nodes.transfer(whole=True)
    await finish(transfer)
    assert transfer.linked == [other]
    assert nodes.replica.kinds[-2:] == [Kind.PUBLISH, Kind.LINK]
    one, two = nodes.catalog.objects.get(BIG), nodes.catalog.objects.get(other)
    assert one is not None
    assert two is not None
    assert one.inode == two.inode != 0


class SlowReplica(Replica):
    """Takes a while for each batch; what is cut off there would leave half a message on the link."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.taken = 0

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        """One batch."""
        super().pack(records)
        return [WireBatch(EncodedBatch(1, len(records), b""), b"")]

    async def send(self, packed: WireBatch) -> None:
        """Takes it, some time later."""
        self.begun += 1
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        await trio.sleep(0.01)
        self.taken += 1


async def test_a_failed_read_does_not_cut_off_what_is_being_sent(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    replica, calls = SlowReplica(), []

    def reads(*args: Any) -> Scan:
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.EIO, "no")
        return scan(*args)

    monkeypatch.setattr("i2core.rule.source.transfer.scan", reads)
    task = Task(place=BIG, whole=True, trust=False)
    with pytest.raises(OSError, match="no"):
        await Transfer(nodes.source, replica, task).run()
    assert (replica.begun, replica.taken) == (2, 2)  # STAGE, and the first slice
