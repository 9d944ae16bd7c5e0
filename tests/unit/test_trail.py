"""Deep directories are opened from those above them, during one job only, and with few descriptors."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from i2core.posix import trail as trail_module
from i2core.posix import tree as tree_module
from i2core.posix.errnos import GONE
from i2core.posix.syscalls import open_beneath
from i2core.posix.trail import LONG_BYTES
from i2core.posix.tree import LocalTree

LEVELS = 400
NAME = b"level"


@attrs.define
class Opened:
    """The calls of `open_beneath`."""

    steps: int = 0
    """Names that the kernel had to resolve."""
    calls: int = 0
    fail_at: int = -1
    """The number of a call that finds no descriptor left."""

    def beneath(self, fd: int, path: bytes, flags: int) -> int:
        """As `open_beneath`."""
        self.calls += 1
        if self.calls - 1 == self.fail_at:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.steps += path.count(b"/") + 1
        return open_beneath(fd, path, flags)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    found = Opened()
    for module in (tree_module, trail_module):
        monkeypatch.setattr(module, "open_beneath", found.beneath)
    return found


def at(level: int) -> bytes:
    """The path of the directory at that depth."""
    return b"/".join([NAME] * level)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[LocalTree]:
    """A chain of directories, with a directory `side` in each."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir(NAME, dir_fd=fd)
        os.mkdir(b"side", dir_fd=fd)
        deeper = os.open(NAME, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    found = LocalTree(os.fsencode(tmp_path))
    before = os.listdir("/proc/self/fd")
    yield found
    assert len(os.listdir("/proc/self/fd")) == len(before), "descriptors are left open"
    found.close()
    shutil.rmtree(tmp_path)


def number(tree: LocalTree, path: bytes) -> int:
    """The inode number of the directory at `path`."""
    with tree.directory(path) as directory:
        return directory.here().ino


def test_a_way_down_and_up_again_costs_as_much_as_its_levels(tree: LocalTree, opened: Opened) -> None:
    paths = [at(level) for level in range(1, LEVELS + 1)]
    paths += [at(level) + b"/side" for level in range(LEVELS - 1, 0, -1)]
    plain = [number(tree, path) for path in paths]
    alone, opened.steps = opened.steps, 0
    with tree.job():
        assert [number(tree, path) for path in paths] == plain
    short = LONG_BYTES // len(NAME)
    assert opened.steps < 2 * short * short + len(paths) * 110 < alone  # 512 bytes of path are about 100 levels


def test_a_way_back_with_few_descriptors(tree: LocalTree, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of the kept directories are closed; the result is right in any case."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    before = len(os.listdir("/proc/self/fd"))
    paths = [at(level) for level in (*range(1, LEVELS + 1), *range(LEVELS, 0, -1))]
    plain = [number(tree, path) for path in paths]
    alone, opened.steps = opened.steps, 0
    with tree.job():
        for path, expected in zip(paths, plain, strict=True):
            assert number(tree, path) == expected
            assert len(os.listdir("/proc/self/fd")) - before <= 64 // 8 + 1
    assert opened.steps < alone / 2


def test_other_branches_are_not_mixed_up(tree: LocalTree) -> None:
    deep, branch = at(200), b"level/" * 199 + b"side"
    plain = [number(tree, path) for path in (deep, branch, at(199), deep + b"/side")]
    with tree.job():
        for _ in range(3):
            assert [number(tree, path) for path in (deep, branch, at(199), deep + b"/side")] == plain
        # A name that only begins like one that is open.
        for path in (deep[:-1], deep + b"x", deep + b"/", branch + b"/x"):
            with pytest.raises(OSError) as failed:
                tree.directory(path + b"/none")
            assert failed.value.errno in GONE


def test_what_was_moved_is_not_found_under_its_old_path_by_the_next_job(tree: LocalTree, tmp_path: Path) -> None:
    deep = at(LEVELS)
    with tree.job():
        number(tree, deep)
    (tmp_path / "level").rename(tmp_path / "moved")
    with tree.job():
        with pytest.raises(FileNotFoundError):
            tree.directory(deep)
        assert tree.lookup(deep) is None
        assert tree.lookup(b"moved" + deep[5:]) is not None


@pytest.mark.parametrize("moved", [False, True])
def test_a_directory_that_is_swapped_for_a_symlink_leads_nowhere(
    tree: LocalTree, tmp_path: Path, *, moved: bool
) -> None:
    """Also in the middle of a job: kept descriptors are directories of the tree, whatever their names lead to by
    now."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret").mkdir()
    try:
        with tree.job():
            number(tree, at(100))
            above, name = tmp_path / os.fsdecode(at(99)), os.fsdecode(NAME) if moved else "side"
            (above / name).rename(above / "gone")
            (above / name).symlink_to(outside)
            for path in (at(99) + b"/side/secret", at(100) + b"/secret"):
                with pytest.raises(OSError) as failed:
                    tree.directory(path)
                assert failed.value.errno in GONE
    finally:
        shutil.rmtree(outside)


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_kept_directories_are_closed_when_descriptors_are_lacking(
    tree: LocalTree, opened: Opened, fail_at: int
) -> None:
    plain = [number(tree, at(level)) for level in (LEVELS, LEVELS - 1)]
    opened.fail_at = opened.calls + fail_at
    with tree.job():
        assert [number(tree, at(level)) for level in (LEVELS, LEVELS - 1)] == plain


def test_a_directory_that_may_only_be_passed_through(tree: LocalTree, opened: Opened) -> None:
    """It is kept as part of the way, and opened for reading when it is requested itself."""
    with tree.job():
        number(tree, at(LEVELS))
        for level in range(LEVELS, LONG_BYTES // len(NAME), -1):
            with tree.directory(at(level)) as directory:
                assert {entry.name for entry in directory.entries()} == ({NAME, b"side"} if level < LEVELS else set())
