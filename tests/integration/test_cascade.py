"""Rules in a chain, and a target on a watched file system: i2's own writes are not replicated further than they
should."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from tests.conftest import OpenPair

CAPTURES = ["inotify", pytest.param("fanotify", marks=pytest.mark.root)]
noise = random.Random(3)  # noqa: S311 (no secret)


def fill(sources: list[Path]) -> None:
    """A few directories and files, one of them large enough for a staging file."""
    for number in range(10):
        directory = sources[0] / f"dir{number}"
        directory.mkdir()
        for name in range(5):
            (directory / f"file{name}").write_bytes(noise.randbytes(1000))
    (sources[0] / "large").write_bytes(noise.randbytes(6 << 20))


@pytest.mark.parametrize("capture", CAPTURES)
async def test_b_is_target_and_source(open_pair: OpenPair, tmp_path: Path, capture: str) -> None:
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    async with (
        open_pair(capture=capture, home=tmp_path / "first", sources=[a], targets=[b], prepare=fill) as first,
        open_pair(capture=capture, home=tmp_path / "second", sources=[b], targets=[c], fenced=False) as second,
    ):
        await first.check()
        await second.settle()
        assert compare_trees(a, c) == []
        captured = first.status.captured, second.status.captured
        (a / "dir0").rename(a / "renamed")
        (a / "large").write_bytes(noise.randbytes(7 << 20))
        (a / "dir1" / "file1").unlink()
        await first.check()
        await second.settle()
        assert compare_trees(a, c) == []
        # A loop would never come to rest; a step that is seen twice would show in the count.
        assert first.status.captured - captured[0] < 100
        assert second.status.captured - captured[1] < 200


@pytest.mark.parametrize("capture", CAPTURES)
async def test_what_is_written_to_the_target_is_not_captured(open_pair: OpenPair, tmp_path: Path, capture: str) -> None:
    """The whole file system is marked, the target lies on it."""
    async with open_pair(capture=capture, prepare=fill) as pair:
        await pair.check()
        captured = pair.status.captured
        for number in range(200):
            (pair.sources[0] / f"new{number}").write_bytes(b"x")
        await pair.check()
        # Three hints for each file (made, written, closed), and the fence.
        assert pair.status.captured - captured < 1000
