"""Whether changes of names reach the disk in their order: a power cut then leaves a prefix of them.

The history of a replica rests on it (a start after a power cut undoes what came after the last flush). ext4 and xfs log
all changes of names in one journal. btrfs writes whole transactions, but a sync of one file or directory writes a log
of that one alone: what was renamed before, elsewhere, may be lost while it is there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from i2core.posix.syscalls import sync_filesystem
from i2core.testing.power import RecordedDisk, crash_image, mounted_image, recorded_disk

pytestmark = [pytest.mark.root, pytest.mark.slow]

_CHANGES = 250
_CUTS = 40
State = frozenset[tuple[str, str]]
"""Each path, and what is there: the target of a symlink, which is part of its inode; nothing for a directory."""


def _state(top: Path) -> State:
    return frozenset(
        (str(path.relative_to(top)), os.readlink(path) if path.is_symlink() else "") for path in top.rglob("*")
    )


def _change(top: Path, chance: Random, number: int) -> None:
    """One change of a name: an object comes, goes, moves, or gets another name."""
    directories = [top, *(path for path in top.rglob("*") if path.is_dir() and not path.is_symlink())]
    links = [path for path in top.rglob("*") if path.is_symlink()]
    where = chance.choice(directories)
    match chance.choice(("make", "make", "directory", "remove", "move", "move", "over", "link", "move directory")):
        case "directory" if len(directories) < 8:
            (where / f"d{number}").mkdir()
        case "remove" if links:
            chance.choice(links).unlink()
        case "move" if links:
            chance.choice(links).rename(where / f"m{number}")
        case "over" if len(links) > 1:
            one, other = chance.sample(links, 2)
            one.rename(other)
        case "link" if links:
            os.link(chance.choice(links), where / f"l{number}", follow_symlinks=False)
        case "move directory" if len(directories) > 2:
            moved = chance.choice(directories[1:])
            if moved not in (where, *where.parents):
                moved.rename(where / f"n{number}")
        case _:
            (where / f"f{number}").symlink_to(f"object {number}")


def _sync_all(disk: RecordedDisk) -> None:
    fd = os.open(disk.mount, os.O_RDONLY)
    try:
        sync_filesystem(fd)
    finally:
        os.close(fd)


def _sync_file_elsewhere(disk: RecordedDisk) -> None:
    """As the journal does, where it is on the replica's file system."""
    fd = os.open(disk.mount / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, bytes(100))
        os.fdatasync(fd)
    finally:
        os.close(fd)


def _sync_directory(disk: RecordedDisk) -> None:
    """As anybody may do who can open it."""
    top = disk.mount / "top"
    fd = os.open(max(path for path in (top, *top.iterdir()) if path.is_dir()), os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _broken_cuts(kind: str, home: Path, sync: Callable[[RecordedDisk], None]) -> int:
    """How many of the cuts left something else than a prefix of the changes that reaches to the last full sync."""
    chance, recorded = Random(3), home / "recorded"  # noqa: S311
    recorded.mkdir()
    states: list[State] = []
    full: list[tuple[int, int]] = []
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(recorded_disk(recorded, kind))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this host cannot record a disk with {kind}: {error}")
        top = disk.mount / "top"
        top.mkdir()
        _sync_all(disk)
        full.append((disk.position, 0))
        for number in range(_CHANGES):
            states.append(_state(top))
            _change(top, chance, number)
            if number % 3 == 2:
                sync(disk)
            if number % 60 == 59:
                _sync_all(disk)
                full.append((disk.position, number + 1))
        states.append(_state(top))
        records = disk.records()
    first = next(index for index, record in enumerate(records) if record.end >= full[0][0])
    broken = 0
    for _ in range(_CUTS):
        cut = chance.randint(first + 1, len(records))
        least = [changes for position, changes in full if position <= records[cut - 1].end][-1]
        crash_image(disk.base, records, cut, chance, home / "image")
        with mounted_image(home / "image", kind, home / "crashed") as mount:
            broken += _state(mount / "top") not in states[least:]
    return broken


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("sync", [_sync_all, _sync_file_elsewhere])
def test_names_reach_the_disk_in_order(kind: str, sync: Callable[[RecordedDisk], None], tmp_path: Path) -> None:
    assert _broken_cuts(kind, tmp_path, sync) == 0


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_sync_of_one_directory_keeps_the_order(kind: str, tmp_path: Path) -> None:
    assert _broken_cuts(kind, tmp_path, _sync_directory) == 0


def test_on_btrfs_a_sync_of_one_directory_breaks_the_order(tmp_path: Path) -> None:
    """Nothing may rest on the order of names there, unless all that syncs is a sync of the whole file system."""
    assert _broken_cuts("btrfs", tmp_path, _sync_directory) > 0
