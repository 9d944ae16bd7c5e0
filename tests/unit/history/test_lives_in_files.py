"""Random histories of plain files: as `test_lives`, with each answer and each tree of the files against the model."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from .disk import GRAIN
from .files import SCALE, FileDisk
from .lives import Lived, live


@pytest.fixture(autouse=True)
def _a_file_system_like_the_model(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    try:
        os.setxattr(tmp_path / "probe", "user.a", b"1")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    if os.statvfs(tmp_path).f_bsize != SCALE * GRAIN.hole:
        pytest.skip("the file system has other blocks than 4 KiB")


def _type_of(path: Path) -> str:
    """The file system's type, as mount(8) says."""
    device = os.stat(path).st_dev
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            number, (kind, *_) = line.split()[2], line.split(" - ")[1].split()
            if number == f"{os.major(device)}:{os.minor(device)}":
                return kind
    return ""


def _live(seed: int, top: Path) -> Lived:
    disks: list[FileDisk] = []

    def make_disk(rng: random.Random) -> FileDisk:
        directory = top / str(seed)
        directory.mkdir()
        disks.append(FileDisk(rng, os.fsencode(directory), exact_holes=_type_of(top) in ("ext4", "tmpfs")))
        return disks[0]

    try:
        return live(seed, length=40, moments=3, make_disk=make_disk)
    finally:
        for disk in disks:
            disk.close()


def test_every_moment_of_plain_files_reads_as_it_was(tmp_path: Path) -> None:
    """Few lives: each step is some system calls."""
    lives = [_live(seed, tmp_path) for seed in range(4)]
    assert all(lived.moments for lived in lives)
    assert any(lived.cuts for lived in lives)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 200, 20))
def test_every_moment_of_plain_files_reads_as_it_was_in_many_lives(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 20):
        _live(seed, tmp_path)
