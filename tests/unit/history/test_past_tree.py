"""A moment of the past keeps the contract of all trees, and tells what somebody else has changed on the replica."""

from __future__ import annotations

import os
import random
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest
from i2_sink_fs.plugin import i2_sinks
from i2_sink_fs.present.replica import FsReplica
from i2_sink_fs.roots import Roots

from i2core.api import Batch, NoConfig, SinkContext
from i2core.api.present import Handle
from i2core.api.records import Kind, Meta, Record
from i2core.api.tree import AttributesUnreadable, RootGone
from i2core.history.index.index import Index
from i2core.history.model.grain import Grain
from i2core.history.plan.enrol import enrol
from i2core.history.read.past import Past
from i2core.history.read.places import ObjectLost, Places
from i2core.history.read.tree import PastTree
from i2core.testing import check_tree
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE, Inode
from i2core.testing.tree import OpenTree

from .disk import Disk
from .journal import Journal
from .seeds import MEMORY
from .world import World

FIFO = Meta(stat.S_IFIFO | 0o600, 0, 0, 5, (), 0)


@pytest.fixture
def place() -> Iterator[str]:
    """Where an index lies."""
    with tempfile.TemporaryDirectory(prefix="i2-history-", dir=MEMORY) as directory:
        yield directory


def _world(place: str, grain: Grain) -> World:
    rng = random.Random(1)  # noqa: S311 (a seed, not a secret)
    return World(rng, place, make_disk=lambda rng: Disk(rng, grain))


def _tree(world: World, seq: int, only: bytes | None = None, *, flags: bool = False) -> PastTree:
    return PastTree(world.past(), seq, b"/replica", only=only, flags=flags)


def _file(path: bytes, data: bytes = b"old content") -> Record:
    return Record(Kind.CREATE, 0, path, meta=EMPTY_FILE, data=data)


# ------------------------------------------------------------------------------------------ the contract


def _paths(world: World, is_wanted: Callable[[Inode], bool]) -> list[bytes]:
    return [b"/".join(path) for path, copy in world.trees[world.seq].items() if path and is_wanted(copy.node)]


def _nothing(world: World) -> None:
    pass


def _content(world: World) -> None:
    """Each file gets other bytes, holes and a length, each object other attributes."""
    for path in _paths(world, lambda node: node.is_file):
        world.apply(
            [
                Record(Kind.WRITE, 0, path, offset=3, data=b"later" * 40_000),
                Record(Kind.PUNCH, 0, path, offset=4096, size=70_000),
                Record(Kind.TRUNCATE, 0, path, size=100_000),
            ]
        )
    for path in _paths(world, lambda node: not stat.S_ISLNK(node.meta.mode)):
        world.apply([_another_meta(world, path)])


def _another_meta(world: World, path: bytes) -> Record:
    node = world.disk.walk(path)
    assert node is not None
    meta = Meta(node.meta.mode ^ 0o111, 7, 8, 9, ((b"user.later", b"1"),), 16)
    return Record(Kind.SETATTR, 0, path, meta=meta)


def _names(world: World) -> None:
    """Directories move, names are exchanged, and new names come."""
    world.apply(
        [
            Record(Kind.RENAME, 0, b"dir/sub", b"moved"),
            Record(Kind.RENAME, 0, b"dir", b"moved/dir"),
            Record(Kind.MKDIR, 0, b"dir", meta=DIRECTORY),
            Record(Kind.RENAME, 0, b"file", b"dir/second"),
            Record(Kind.RENAME, 0, b"sparse", b"file"),
            Record(Kind.LINK, 0, b"sparse", b"empty"),
            Record(Kind.LINK, 0, b"missing", b"empty"),
            Record(Kind.REMOVE, 0, b"trap"),
            Record(Kind.MKDIR, 0, b"trap", meta=DIRECTORY),
            _file(b"trap/sub"),
        ]
    )


def _removal(world: World) -> None:
    """All is gone, in part one by one, and something else has the names."""
    world.apply(
        [
            Record(Kind.REMOVE, 0, b"dir/7"),
            Record(Kind.REMOVE, 0, b"file"),
            Record(Kind.WRITE, 0, b"dir/second", data=b"later"),
            Record(Kind.REMOVE, 0, b""),
            _file(b"dir"),
            Record(Kind.MKDIR, 0, b"file", meta=DIRECTORY),
            _file(b"file/name"),
            Record(Kind.MKNOD, 0, b"sparse", meta=FIFO),
        ]
    )


def _all(world: World) -> None:
    for later in (_content, _names, _removal):
        later(world)


@pytest.mark.parametrize("later", [_nothing, _content, _names, _removal, _all])
@pytest.mark.parametrize("known", [False, True], ids=["from before", "by records"])
async def test_a_moment_keeps_the_contract(place: str, known: bool, later: Callable[[World], None]) -> None:
    """`known`: records have made the tree; otherwise it was there before its history."""

    async def make(records: Sequence[Record]) -> OpenTree:
        world = _world(place, Grain())
        made = [one._replace(meta=one.meta and one.meta._replace(flags=0)) for one in records]
        if not known:
            world.disk.apply(made)
        world.begin()
        if known:
            world.apply(made)
        seq = world.seq
        later(world)
        return partial(_tree, world, seq)

    await check_tree(make)


async def test_a_moment_of_plain_files_keeps_the_contract(place: str, tmp_path: Path) -> None:
    """The one at which history begins: all but the file with two names is without a number."""
    root = os.fsencode(tmp_path / "replica")
    context = SinkContext(roots=(root,), allowed=(os.fsencode(tmp_path),), secret=bytes(32), flags=True)
    os.mkdir(root)
    index = Index(place)
    with ExitStack() as stack:
        stack.callback(index.close)

        async def make(records: Sequence[Record]) -> OpenTree:
            (spec,) = i2_sinks()
            async with spec.open(NoConfig(), context) as sink:
                assert not (await sink.apply(Batch(1, records))).failures
                await sink.flush()
            present = stack.enter_context(closing(FsReplica(context, Roots(context.roots, context.allowed, {}))))
            for changes in enrol(present, [0], index.catalog.next_oid):
                index.catalog.change(changes)
            past = Past(index, Places(index, present), Journal())
            return lambda only=None, *, flags=False: PastTree(past, 0, root, only=only, flags=flags)

        await check_tree(make)


def test_an_open_object_reads_the_same_when_its_number_comes_and_goes(place: str) -> None:
    world = _world(place, Grain())
    world.disk.apply([Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY), _file(b"d/f")])
    world.begin()
    with _tree(world, 0).directory(b"d") as directory, directory.open(b"f") as file:
        for change in (
            Record(Kind.WRITE, 0, b"d/f", data=b"NEW"),
            Record(Kind.RENAME, 0, b"d", b"e"),
            Record(Kind.REMOVE, 0, b"e"),
            _file(b"d"),
        ):
            world.apply([change])
            assert bytes(file.read(0, 99)) == b"old content"
            assert [entry.name for entry in directory.entries()] == [b"f"]
            assert directory.entry(b"f") == file.entry()._replace(flags=-1)
    assert not world.disk.open_handles


# ------------------------------------------------------------------------------------------ somebody else


@pytest.fixture
def world(place: str) -> World:
    """A moment 3 with a file of two blocks in a directory, and later changes of both."""
    world = _world(place, Grain(block=8))
    world.begin()
    world.apply([Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY), _file(b"d/f"), _file(b"d/g")])
    world.apply([Record(Kind.WRITE, 0, b"d/f", data=b"NEW"), Record(Kind.SETATTR, 0, b"d", meta=DIRECTORY)])
    return world


def test_a_file_that_somebody_made_shorter_is_an_error(world: World) -> None:
    with _tree(world, 3).directory(b"d") as directory, directory.open(b"f") as file:
        assert bytes(file.read(0, 99)) == b"old content"
        file_now = world.disk.walk(b"d/f")
        assert file_now is not None
        file_now.truncate(9)
        assert bytes(file.read(0, 9)) == b"old conte", "what is there is read"
        with pytest.raises(ObjectLost, match="shorter"):
            file.read(0, 99)


def test_an_object_that_somebody_replaced_is_an_error(world: World) -> None:
    directory_now = world.disk.walk(b"d")
    assert directory_now is not None
    directory_now.entries[b"f"] = world.disk.inode(EMPTY_FILE)
    tree = _tree(world, 3)
    with tree.directory(b"d") as directory:
        with pytest.raises(ObjectLost):
            directory.open(b"f")
        with pytest.raises(AttributesUnreadable) as raised:
            directory.entry(b"f")
        assert isinstance(raised.value.__cause__, ObjectLost)
        assert raised.value.filename == b"f"
        assert directory.entry(b"g") is not None


def test_an_object_that_somebody_removed_is_not_missing_in_silence(world: World) -> None:
    directory_now = world.disk.walk(b"d")
    assert directory_now is not None
    del directory_now.entries[b"f"]
    with _tree(world, 3).directory(b"d") as directory, pytest.raises(AttributesUnreadable):
        list(directory.listing(10))
    unread: list[AttributesUnreadable] = []
    with _tree(world, 3).directory(b"d") as directory:
        listed = [entry.name for part in directory.listing(10, unread.append) for entry in part]
    assert (listed, [error.filename for error in unread]) == ([b"g"], [b"f"])
    world.disk.root.entries[b"d"] = world.disk.inode(Meta(stat.S_IFLNK | 0o777, 0, 0, 0, (), 0), b"elsewhere")
    with pytest.raises(ObjectLost):
        _tree(world, 3).directory(b"d")


def test_a_root_that_somebody_replaced_is_gone(world: World) -> None:
    tree = _tree(world, 3)
    assert tree.is_present()
    world.disk.top.entries[b"0"] = world.disk.inode(DIRECTORY)
    assert not tree.is_present()
    with pytest.raises(RootGone):
        tree.directory(b"")
    with pytest.raises(RootGone):
        tree.lookup(b"d")


# ------------------------------------------------------------------------------------------ what entries say


def test_links_are_counted_as_they_were(world: World) -> None:
    """A name in a directory that was not there is none of the moment."""
    world.apply([Record(Kind.LINK, 0, b"d/h", b"d/f"), Record(Kind.LINK, 0, b"other", b"d/f")])
    three = world.seq
    world.apply([Record(Kind.REMOVE, 0, b"d")])
    one = world.seq
    world.apply([Record(Kind.REMOVE, 0, b"other"), _file(b"other")])
    found = _tree(world, three).lookup(b"other")
    assert found is not None and found.nlink == 3
    found = _tree(world, one).lookup(b"other")
    assert found is not None and found.nlink == 1


def test_a_device_has_its_number(world: World) -> None:
    device = FIFO._replace(mode=stat.S_IFBLK | 0o600)
    world.apply([Record(Kind.MKNOD, 0, b"device", meta=device, size=0x103)])
    seq = world.seq
    world.apply([Record(Kind.REMOVE, 0, b"device")])
    found = _tree(world, seq).lookup(b"device")
    assert found is not None and (found.rdev, found.mode) == (0x103, device.mode)


def test_the_lock_is_held_during_each_question_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class Lock:
        def __enter__(self) -> None:
            held.append(1)

        def __exit__(self, *error: object) -> None:
            held.pop()

    def child(directory: Handle, name: bytes) -> Handle | None:
        assert held == [1]
        return ask(directory, name)

    ask = world.disk.child
    monkeypatch.setattr(world.disk, "child", child)
    with PastTree(world.past(), 3, b"/replica", lock=Lock()).directory(b"d") as directory:
        assert [len(part) for part in directory.listing(1) if not held] == [1, 1]
