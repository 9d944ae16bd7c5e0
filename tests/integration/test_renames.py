"""A renamed object is not sent again, whatever its size."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import OpenPair

MIB = 1 << 20
CAPTURES = ["inotify", pytest.param("fanotify", marks=pytest.mark.root), "scan"]


def fill(sources: list[Path]) -> None:
    """200 MiB in two files and many small ones, two directories deep."""
    noise = random.Random(1)  # noqa: S311 (no secret)
    deep = sources[0] / "tree" / "deeper"
    deep.mkdir(parents=True)
    for name in ("one", "two"):
        (deep / name).write_bytes(noise.randbytes(MIB) * 100)
    for number in range(300):
        (deep / f"small{number}").write_bytes(noise.randbytes(300))
    (sources[0] / "document").write_bytes(noise.randbytes(2 * MIB))


@pytest.mark.parametrize("capture", CAPTURES)
async def test_a_renamed_tree_is_not_sent_again(open_pair: OpenPair, capture: str) -> None:
    async with open_pair(capture=capture, prepare=fill) as pair:
        await pair.settle()
        before = pair.status.sent_bytes
        (pair.sources[0] / "tree").rename(pair.sources[0] / "moved")
        await pair.check()
        (pair.sources[0] / "new" / "place").mkdir(parents=True)
        (pair.sources[0] / "moved").rename(pair.sources[0] / "new" / "place" / "tree")
        await pair.check()
        assert pair.status.sent_bytes - before < 100_000


@pytest.mark.parametrize("capture", CAPTURES)
async def test_a_renamed_file_is_not_sent_again(open_pair: OpenPair, capture: str) -> None:
    async with open_pair(capture=capture, prepare=fill) as pair:
        await pair.settle()
        before = pair.status.sent_bytes
        top = pair.sources[0]
        for number in range(5):
            (top / "document").rename(top / f"name{number}")
            (top / f"name{number}").rename(top / "document")
        (top / "document").rename(top / "tree" / "document")
        os.link(top / "tree" / "document", top / "second name")
        await pair.check()
        assert pair.status.sent_bytes - before < 100_000


async def test_a_saved_file_is_sent_once(open_pair: OpenPair) -> None:
    """A temporary file is written and renamed: its content is sent once, not once for each name."""
    async with open_pair(prepare=fill) as pair:
        await pair.settle()
        before = pair.status.sent_bytes
        for number in range(3):
            passing = pair.sources[0] / ".document.swp"
            passing.write_bytes(bytes([number]) * MIB)
            passing.rename(pair.sources[0] / "document")
            await pair.check()
        assert pair.status.sent_bytes - before < 3 * MIB + 100_000
