"""A moment that is mounted is the moment: while records go on, and where somebody else has changed the replica."""

from __future__ import annotations

import errno
import os
import random
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio.testing

from i2core.api import Code, Kind, Meta, Record
from i2core.api.line import Line
from i2core.api.tree import Tree
from i2core.history.model.grain import Grain
from i2core.history.read.tree import PastTree
from i2core.mount.mounted import mounted
from i2core.posix.tree import LocalTree
from i2core.testing import check_tree
from i2core.testing.memory_replica import EMPTY_FILE
from i2core.testing.tree import OpenTree
from i2core.testing.walks import of_directory, of_tree

from .disk import Disk
from .seeds import MEMORY
from .world import World

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is not ours to open"),
]
DIRECTORY = Meta(stat.S_IFDIR | 0o750, 0, 0, 5, (), 0)


@pytest.fixture
def place() -> Iterator[str]:
    """Where the index of a history lies."""
    with tempfile.TemporaryDirectory(prefix="i2-history-", dir=MEMORY) as directory:
        yield directory


@pytest.fixture
def point(tmp_path: Path) -> bytes:
    """An empty directory to mount on."""
    (tmp_path / "point").mkdir()
    return bytes(tmp_path / "point")


@pytest.fixture
def lines() -> list[Line]:
    """What a mount has said."""
    return []


def _world(place: str) -> World:
    return World(random.Random(1), place, make_disk=lambda rng: Disk(rng, Grain()))  # noqa: S311


async def _past_tree(place: str, records: Sequence[Record]) -> Tree:
    """All of it is gone or changed since."""
    world = _world(tempfile.mkdtemp(dir=place))
    world.begin()
    world.apply([one._replace(meta=one.meta and one.meta._replace(flags=0)) for one in records])
    seq = world.seq
    world.apply(
        [
            Record(Kind.WRITE, 0, b"file", offset=3, data=b"later" * 40_000),
            Record(Kind.PUNCH, 0, b"file", offset=4096, size=70_000),
            Record(Kind.RENAME, 0, b"dir/sub", b"moved"),
            Record(Kind.REMOVE, 0, b"dir/second"),
            Record(Kind.REMOVE, 0, b"sparse"),
            Record(Kind.CREATE, 0, b"sparse", meta=EMPTY_FILE, data=b"another"),
        ]
    )
    return PastTree(world.past(), seq, b"/replica")


async def test_a_mounted_moment_keeps_the_contract_of_trees(place: str, tmp_path: Path, lines: list[Line]) -> None:
    async with AsyncExitStack() as mounts:

        async def make(records: Sequence[Record]) -> OpenTree:
            tree = await _past_tree(place, records)
            directory = tempfile.mkdtemp(dir=tmp_path).encode()
            await mounts.enter_async_context(mounted(tree, directory, lines.append))
            picture = of_tree(tree)
            assert of_directory(directory) == picture
            assert of_directory(directory) == picture, "what the kernel has kept is something else"
            return partial(LocalTree, directory)

        await check_tree(make)
        assert lines == []


async def test_a_moment_stays_while_records_go_on(place: str, point: bytes, lines: list[Line]) -> None:
    async with AsyncExitStack() as mounts:
        world = _world(place)
        world.begin()
        world.apply([Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY)])
        world.apply([Record(Kind.CREATE, 0, b"d/%d" % number, meta=EMPTY_FILE, data=b"old") for number in range(50)])
        await mounts.enter_async_context(mounted(PastTree(world.past(), world.seq, b"/replica"), point, lines.append))
        file = os.open(point + b"/d/7", os.O_RDONLY)
        world.apply([Record(Kind.WRITE, 0, b"d/7", data=b"new"), Record(Kind.REMOVE, 0, b"d")])
        assert os.pread(file, 10, 0) == b"old"
        os.close(file)
        assert sorted(os.listdir(point + b"/d")) == sorted(b"%d" % number for number in range(50))
        assert {Path(os.fsdecode(point), "d", str(number)).read_bytes() for number in range(50)} == {b"old"}
        assert lines == []


async def test_a_lost_object_fails_alone_and_is_logged_once(place: str, point: bytes, lines: list[Line]) -> None:
    async with AsyncExitStack() as mounts:
        world = _world(place)
        world.begin()
        world.apply([Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY)])
        world.apply([Record(Kind.CREATE, 0, b"d/" + name, meta=EMPTY_FILE, data=name) for name in (b"a", b"f", b"z")])
        seq = world.seq
        world.apply([Record(Kind.SETATTR, 0, b"d/" + name, meta=EMPTY_FILE) for name in (b"a", b"f", b"z")])
        somebody = world.disk.walk(b"d")
        assert somebody is not None
        somebody.entries[b"f"] = world.disk.inode(EMPTY_FILE)
        await mounts.enter_async_context(mounted(PastTree(world.past(), seq, b"/replica"), point, lines.append))
        assert sorted(os.listdir(point + b"/d")) == [b"a", b"f", b"z"]
        for name in (b"a", b"z"):
            assert Path(os.fsdecode(point + b"/d/" + name)).read_bytes() == name
        for _ in range(3):
            with pytest.raises(OSError, match="clean") as raised:
                os.lstat(point + b"/d/f")
            assert raised.value.errno == errno.EUCLEAN
        await trio.testing.wait_all_tasks_blocked()
        (line,) = lines
        assert line.code is Code.MOUNT_READ
        assert line.obj == "/replica/d/f"
