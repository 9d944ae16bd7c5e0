"""Of a large file only the changed part is sent, and it does not delay other files."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from tests.conftest import OpenPair

MIB = 1 << 20
PAGE = 4096
noise = random.Random(2)  # noqa: S311 (no secret)


def large(sources: list[Path], name: str, size: int) -> None:
    """A dense file."""
    piece = noise.randbytes(MIB)
    with open(sources[0] / name, "wb") as file:
        for _ in range(size // MIB):
            file.write(piece)


def append(path: Path, data: bytes) -> None:
    """Appends data."""
    with open(path, "ab") as file:
        file.write(data)


async def test_a_growing_log_sends_its_tail(open_pair: OpenPair) -> None:
    async with open_pair(prepare=lambda sources: large(sources, "log", 100 * MIB)) as pair:
        await pair.settle()
        before = pair.status.sent_bytes
        for _ in range(20):
            append(pair.sources[0] / "log", noise.randbytes(10_000))
            await trio.sleep(0.005)
        await pair.check()
        assert 200_000 <= pair.status.sent_bytes - before < 4 * MIB


async def test_pages_changed_in_place_are_sent_alone(open_pair: OpenPair) -> None:
    async with open_pair(prepare=lambda sources: large(sources, "image", 256 * MIB)) as pair:
        await pair.settle()
        before = pair.status.sent_bytes
        fd = os.open(pair.sources[0] / "image", os.O_WRONLY)
        try:
            for page in range(10):
                os.pwrite(fd, noise.randbytes(PAGE), page * 25 * MIB)
        finally:
            os.close(fd)
        await pair.check()
        assert 10 * PAGE <= pair.status.sent_bytes - before < 2 * MIB


async def test_a_hot_file_does_not_delay_others(open_pair: OpenPair) -> None:
    """While a large file is being written all the time, a small one is sent at once."""
    async with open_pair(prepare=lambda sources: large(sources, "image", 128 * MIB)) as pair:
        await pair.settle()
        source, target = pair.sources[0], pair.targets[0]
        stop = trio.Event()

        async def write_all_the_time() -> None:
            fd = os.open(source / "image", os.O_WRONLY)
            try:
                while not stop.is_set():
                    os.pwrite(fd, noise.randbytes(PAGE), noise.randrange(128 * MIB - PAGE))
                    await trio.sleep(0.001)
            finally:
                os.close(fd)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_all_the_time)
            for number in range(5):
                (source / f"small{number}").write_text("small")
                with trio.fail_after(10):
                    while not (target / f"small{number}").exists():  # noqa: ASYNC110 (a file has no event)
                        await trio.sleep(0.005)
            stop.set()
        await pair.check()
