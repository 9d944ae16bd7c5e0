"""Mirroring, changing and repairing a huge sparse file costs by its data, not by its size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import BLOCK_BYTES, Change, Op, Place
from i2core.api.content import extents
from i2core.config.model import MirrorOptions, Verify
from i2core.posix.file import LocalContent
from i2core.wire.frame import FrameType

from .pair import Nodes, open_nodes, until

TIB = 1 << 40
STRICT = MirrorOptions(verify=Verify.STRICT)


def data_of(path: Path) -> dict[int, bytes]:
    """The blocks of a file that are not zero."""
    with path.open("rb") as file:
        found = {}
        for start, end, data in extents(LocalContent(file.fileno()), 0, path.stat().st_size):
            for at in range(start // BLOCK_BYTES * BLOCK_BYTES, end if data else 0, BLOCK_BYTES):
                content = os.pread(file.fileno(), BLOCK_BYTES, at)
                if content.strip(b"\0"):
                    found[at] = content
        return found


def put(path: Path, at: int, content: bytes) -> None:
    with path.open("rb+") as file:
        os.pwrite(file.fileno(), content, at)


def huge(path: Path, *places: int) -> Path:
    path.touch()
    os.truncate(path, TIB)
    if path.stat().st_blocks:
        pytest.skip("no sparse files here")
    for at in places:
        put(path, at, os.urandom(5000))
    return path


def equal(nodes: Nodes) -> bool:
    source, target = nodes.source / "image", nodes.target / "image"
    return source.stat().st_size == target.stat().st_size and data_of(source) == data_of(target)


async def test_a_write_costs_what_was_written(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        image = huge(nodes.source / "image", 0, 3 << 30, TIB - 7000)
        async with nodes.running() as status:
            await until(lambda: equal(nodes))
            for turn, at in enumerate((170_000_000 * 4096, 5 << 33, TIB - 100)):
                before, sent = len(nodes.wire.frames), status.sent_bytes
                put(image, at, os.urandom(60))
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"image")))
                await until(lambda: equal(nodes))
                # The first time the replica is asked what it has; then the catalog knows.
                asked = nodes.wire.frames[before:].count(FrameType.HASHES)
                assert asked <= (2 if turn == 0 else 0)
                assert status.sent_bytes - sent < 2 * BLOCK_BYTES
        assert (nodes.target / "image").stat().st_blocks * 512 < 1 << 20


async def test_a_compare_asks_about_data_alone(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        huge(nodes.source / "image", 0, 3 << 30, 5 << 35)
        await nodes.run()
        # Data that should not be there, a piece that is missing, and one that is another.
        put(nodes.target / "image", 7 << 36, b"foreign")
        put(nodes.target / "image", 0, bytes(5000))
        put(nodes.target / "image", 3 << 30, b"another")
        nodes.wire.frames.clear()
        await nodes.run(nodes.rule(mirror=STRICT))
        assert equal(nodes)
        assert nodes.wire.frames.count(FrameType.HASHES) <= 2


async def test_many_islands_go_in_slices(tmp_path: Path) -> None:
    """More data than fit in one slice, on both sides, at different and at equal places."""
    async with open_nodes(tmp_path) as nodes:
        image = huge(nodes.source / "image")
        with image.open("rb+") as file:
            for number in range(1300):
                os.pwrite(file.fileno(), b"source %d" % number, number << 28)
        await nodes.run()
        assert equal(nodes)
        with (nodes.target / "image").open("rb+") as file:
            for number in range(0, 1300, 2):
                os.pwrite(file.fileno(), b"another", (number << 28) + BLOCK_BYTES * (number % 3))
        await nodes.run(nodes.rule(mirror=STRICT))
        assert equal(nodes)


async def test_a_file_that_grows_by_a_hole_and_shrinks(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        image = nodes.source / "image"
        image.write_bytes(os.urandom(300_000))
        async with nodes.running():
            await until(lambda: equal(nodes))
            for size in (TIB, 200_000, TIB + 5, 64 << 20, 3):
                os.truncate(image, size)
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"image")))
                await until(lambda: equal(nodes))
                put(image, size // 3, b"some data")
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"image")))
                await until(lambda: equal(nodes))
