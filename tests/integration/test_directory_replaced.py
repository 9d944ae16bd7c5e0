"""Somebody replaces a directory of the replica. What changes beneath it leads to its repair, although nothing is wrong
with the directory on the source; and nothing is written to what is there instead."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from i2_sink_fs.apply import Applier

from i2core.api import Change, Op, Place, Record
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

NAMES = ("x", "y", "large", "e/z")


def fill(source: Path) -> None:
    """Two levels of directories, with files that are sent in every way."""
    (source / "top" / "d" / "e").mkdir(parents=True)
    for name in NAMES:
        (source / "top" / "d" / name).write_bytes(name.encode() * (1_200_000 if name == "large" else 1))


def by_symlink(directory: Path, outside: Path) -> None:
    """A symlink to a directory that has the same names."""
    shutil.rmtree(directory)
    directory.symlink_to(outside)


def by_file(directory: Path, outside: Path) -> None:
    """A file."""
    shutil.rmtree(directory)
    directory.write_bytes(b"no directory")


def by_fifo(directory: Path, outside: Path) -> None:
    """A FIFO: whoever opened it would wait for ever."""
    shutil.rmtree(directory)
    os.mkfifo(directory)


def by_nothing(directory: Path, outside: Path) -> None:
    """It is removed."""
    shutil.rmtree(directory)


def moved_away(directory: Path, outside: Path) -> None:
    """It is moved out of the replica."""
    directory.rename(outside / "moved")


REPLACED = [by_symlink, by_file, by_fifo, by_nothing, moved_away]
replaced = pytest.mark.parametrize("replace", REPLACED, ids=[each.__name__ for each in REPLACED])
depths = pytest.mark.parametrize("depth", ["top", "top/d", "top/d/e"])


def lay(nodes: Nodes, depth: str, replace: Callable[[Path, Path], None]) -> tuple[Path, list[tuple[str, bytes]]]:
    """Replaces the directory; returns the one outside, with what is in it."""
    outside = nodes.home / "outside"
    for name in NAMES:
        for above in ("", "d", "top/d"):
            (outside / above / name).parent.mkdir(parents=True, exist_ok=True)
            (outside / above / name).write_bytes(b"outside")
    replace(nodes.target / depth, outside)
    return outside, state(outside)


def state(outside: Path) -> list[tuple[str, bytes]]:
    """Every name, with the content of files."""
    found = sorted(outside.rglob("*"))
    return [(str(path), path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else b"") for path in found]


def change(nodes: Nodes, *names: str) -> None:
    """Changes the content of files in place, and reports it: no directory is touched."""
    for name in names:
        with (nodes.source / "top" / "d" / name).open("r+b") as file:
            file.write(b"changed")
        nodes.capture.tell(Change(Op.MODIFY, Place(0, b"top/d/" + name.encode())))


async def equal(nodes: Nodes) -> None:
    """Waits until the replica equals the source."""
    await until(lambda: compare_trees(nodes.source, nodes.target) == [])


@replaced
@depths
async def test_changes_beneath_lead_to_its_repair(
    tmp_path: Path, replace: Callable[[Path, Path], None], depth: str
) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running() as status:
            await equal(nodes)
            outside, before = lay(nodes, depth, replace)
            change(nodes, *NAMES)
            await equal(nodes)
            await until(lambda: status.lag_seconds == 0)
            assert state(outside) == before


@replaced
@depths
async def test_names_that_fail_already_lead_to_its_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path, Path], None], depth: str
) -> None:
    """They are compared alone, without their directory, since it may be huge."""
    monkeypatch.setattr("i2core.rule.repair.doubtful.RETRY_S", (0.05, 0.2))
    real, refusing = Applier._attempt, [True]

    def attempt(self: Applier, record: Record) -> None:
        if refusing and record.path == b"top/d/e/z":
            raise PermissionError(1, "refused on purpose")
        real(self, record)

    monkeypatch.setattr(Applier, "_attempt", attempt)
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        refusing.clear()
        async with nodes.running() as status:
            await equal(nodes)
            refusing.append(True)
            change(nodes, "e/z")
            await until(lambda: any("it is retried until it succeeds" in line for _, _, line in nodes.said))
            outside, before = lay(nodes, depth, replace)
            refusing.clear()
            await equal(nodes)
            await until(lambda: status.lag_seconds == 0)
            assert state(outside) == before
