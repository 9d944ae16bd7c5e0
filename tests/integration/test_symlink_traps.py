"""A symlink that somebody creates in the replica is not followed: nothing outside changes, and the replica is
repaired."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import OpenPair, Pair


def fill(sources: list[Path]) -> None:
    """Directories for the traps, with files that are sent in every way."""
    for number in range(5):
        directory = sources[0] / "top" / f"dir{number}"
        (directory / "deeper").mkdir(parents=True)
        (directory / "small").write_bytes(b"small")
        (directory / "large").write_bytes(b"l" * (5 << 20))
        (directory / "deeper" / "file").write_bytes(b"deep")


def bait(outside: Path) -> dict[str, bytes]:
    """Creates files outside with the names that records will use; returns the state that must not change."""
    (outside / "deeper").mkdir(parents=True)
    for name in ("small", "large", "deeper/file"):
        (outside / name).write_bytes(b"outside " + name.encode())
    return state(outside)


def state(directory: Path) -> dict[str, bytes]:
    """Every name with its content."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else b""
        for path in sorted(directory.rglob("*"))
    }


def trap(directory: Path, outside: Path) -> None:
    """Replaces the directory by a symlink that leads outside."""
    shutil.rmtree(directory)
    directory.symlink_to(outside)


def work_beneath(directory: Path) -> None:
    """Makes a change of every kind beneath a directory whose replica is a trap."""
    (directory / "small").write_bytes(b"changed")
    with open(directory / "large", "r+b") as file:
        file.write(b"changed in place")
    (directory / "new").write_bytes(b"new")
    (directory / "deeper" / "file").unlink()
    (directory / "deeper" / "made").mkdir()
    (directory / "small").chmod(0o600)
    (directory / "new").rename(directory / "renamed")


async def settle_despite(pair: Pair) -> None:
    """A failed record is repaired after its fence, so the trees are compared after a second one."""
    await pair.settle()
    await pair.check()


@pytest.mark.parametrize("depth", ["top", "top/dir0", "top/dir0/deeper"])
async def test_during_live_replication(open_pair: OpenPair, tmp_path: Path, depth: str) -> None:
    outside = tmp_path / "outside"
    before = bait(outside)
    async with open_pair(prepare=fill) as pair:
        await pair.settle()
        trap(pair.targets[0] / depth, outside)
        work_beneath(pair.sources[0] / "top" / "dir0")
        await settle_despite(pair)
        assert state(outside) == before


@pytest.mark.parametrize("depth", ["top", "top/dir0", "top/dir0/deeper"])
async def test_between_two_mirrors(open_pair: OpenPair, tmp_path: Path, depth: str) -> None:
    outside = tmp_path / "outside"
    before = bait(outside)
    async with open_pair(prepare=fill) as pair:
        await pair.settle()
        await pair.stop_work()
        trap(pair.targets[0] / depth, outside)
        work_beneath(pair.sources[0] / "top" / "dir0")
        await pair.start_work()
        await pair.check()
        assert state(outside) == before


async def test_a_removal_takes_the_link_and_not_what_it_leads_to(open_pair: OpenPair, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    before = bait(outside)
    async with open_pair(prepare=fill) as pair:
        await pair.settle()
        trap(pair.targets[0] / "top" / "dir1", outside)
        shutil.rmtree(pair.sources[0] / "top" / "dir1")
        await settle_despite(pair)
        assert state(outside) == before


async def test_a_symlink_of_the_source_stays_one(open_pair: OpenPair, tmp_path: Path) -> None:
    """A directory of the source becomes a symlink that leads outside: nothing outside is sent or removed."""
    outside = tmp_path / "outside"
    before = bait(outside)
    async with open_pair(prepare=fill) as pair:
        await pair.settle()
        trap(pair.sources[0] / "top" / "dir2", outside)
        await pair.check()
        assert (pair.targets[0] / "top" / "dir2").is_symlink()
        assert state(outside) == before
