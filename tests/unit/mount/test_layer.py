"""A mount that can be written: what is written is seen there alone, and gone afterwards."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
import trio

from i2core.api import UsageError
from i2core.api.line import Line
from i2core.mount.device import CannotMount, top_mount
from i2core.mount.layer import remove_leftovers
from i2core.mount.mounted import mounted
from i2core.posix.mounts import read_mounts
from i2core.posix.tree import LocalTree
from i2core.testing.trees import compare_trees

from .test_life import GUARD_S, process

pytestmark = pytest.mark.root


class FixedTree(LocalTree):
    """A directory that nobody changes."""

    is_fixed = True


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A tree to write over."""
    made = tmp_path / "top"
    (made / "dir" / "sub").mkdir(parents=True)
    (made / "file").write_bytes(b"content")
    (made / "dir" / "large").write_bytes(b"0123456789" * 300_000)
    os.link(made / "file", made / "dir" / "second")
    os.setxattr(made / "file", "trusted.overlay.redirect", b"/elsewhere")
    os.setxattr(made / "dir", "trusted.overlay.opaque", b"y")
    return made


@pytest.fixture
def scratch(tmp_path: Path) -> bytes:
    """Where layers are made."""
    (tmp_path / "scratch: with, all\\").mkdir()
    return bytes(tmp_path / "scratch: with, all\\")


async def test_what_is_written_is_seen_and_then_gone(
    top: Path, tmp_path: Path, point: bytes, scratch: bytes, lines: list[Line]
) -> None:
    before = tmp_path / "before"
    subprocess.run(["cp", "-a", top, before], check=True)  # noqa: S603, S607
    here = Path(os.fsdecode(point))
    async with mounted(FixedTree(bytes(top)), point, lines.append, writable=True, scratch=scratch):
        assert (here / "dir" / "large").read_bytes() == (top / "dir" / "large").read_bytes()
        (here / "new").write_bytes(b"new")
        (here / "file").write_bytes(b"changed")
        with (here / "dir" / "large").open("r+b") as file:
            file.seek(1_000_000)
            file.write(b"x")
        (here / "dir" / "sub").rmdir()
        (here / "dir").rename(here / "moved")
        os.chmod(here / "moved" / "second", 0o600)
        os.setxattr(here / "new", "user.mine", b"1")
        assert sorted(os.listdir(here)) == ["file", "moved", "new"]
        assert sorted(os.listdir(here / "moved")) == ["large", "second"]
        assert (here / "file").read_bytes() == b"changed"
        assert (here / "moved" / "large").read_bytes()[999_999:1_000_002] == b"9x1"
        assert stat.S_IMODE(os.lstat(here / "moved" / "second").st_mode) == 0o600
        assert compare_trees(before, top) == []
        assert stat.S_IMODE(here.stat().st_mode) == 0o700, "other users could enter"
        in_sight = [mount.point for mount in read_mounts() if mount.point.startswith(scratch)]
        assert in_sight == [], "the mount below is still in sight"
    assert compare_trees(before, top) == []
    assert os.listdir(scratch) == os.listdir(point) == []
    assert lines == []


async def test_the_top_is_as_in_the_tree_for_everybody(
    top: Path, point: bytes, scratch: bytes, lines: list[Line]
) -> None:
    os.chown(top, 12, 34)
    async with mounted(FixedTree(bytes(top)), point, lines.append, writable=True, scratch=scratch, everybody=True):
        status = os.stat(point)
        assert (status.st_uid, status.st_gid, status.st_mode) == (12, 34, top.stat().st_mode)


async def test_umount_ends_both_mounts(top: Path, point: bytes, scratch: bytes, lines: list[Line]) -> None:
    async with mounted(FixedTree(bytes(top)), point, lines.append, writable=True, scratch=scratch) as mount:
        Path(os.fsdecode(point), "new").write_bytes(b"new")
        await trio.run_process(["umount", os.fsdecode(point)])
        with trio.fail_after(GUARD_S):
            await mount.ended.wait()
    assert os.listdir(scratch) == []


async def test_what_changes_is_not_mounted_writable(top: Path, point: bytes, scratch: bytes, lines: list[Line]) -> None:
    with pytest.raises(UsageError, match="what changes"):
        async with mounted(LocalTree(bytes(top)), point, lines.append, writable=True, scratch=scratch):
            pass
    with pytest.raises(UsageError, match="cannot be written"):
        async with mounted(FixedTree(bytes(top)), point, lines.append, writable=True, scratch=bytes(top / "file")):
            pass


async def test_an_overlay_that_is_refused_leaves_nothing(
    top: Path, point: bytes, scratch: bytes, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("i2core.mount.layer._OPTIONS", b"no-such-option=1")
    with pytest.raises(CannotMount, match="overlayfs is refused"):
        async with mounted(FixedTree(bytes(top)), point, lines.append, writable=True, scratch=scratch):
            pass
    assert os.listdir(scratch) == []
    assert top_mount(point) is None


async def test_what_a_killed_process_left_is_removed(
    top: Path, point: bytes, scratch: bytes, lines: list[Line]
) -> None:
    with process(top, point, "--writable", "--scratch", os.fsdecode(scratch)) as server:
        Path(os.fsdecode(point), "new").write_bytes(b"new")
        remove_leftovers(scratch)
        assert len(os.listdir(scratch)) == 1, "it is in use"
        server.kill()
        server.wait(GUARD_S)
    async with mounted(FixedTree(bytes(top)), point, lines.append, writable=True, scratch=scratch):
        assert len(os.listdir(scratch)) == 1
        assert sorted(os.listdir(point)) == [b"dir", b"file"]
    assert os.listdir(scratch) == []
