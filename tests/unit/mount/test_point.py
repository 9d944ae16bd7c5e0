"""Where nothing may be mounted, and what is said where mounting cannot work."""

from __future__ import annotations

import errno
import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from i2core.api import Code, UsageError
from i2core.api.line import Line
from i2core.mount import device
from i2core.mount.device import CannotMount
from i2core.mount.mounted import mounted
from i2core.mount.point import open_point
from i2core.posix.tree import LocalTree
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_tree import MemoryTree


def test_an_empty_directory_is_a_mount_point(point: bytes) -> None:
    os.close(open_point(point, [b"/nowhere", b"/proc"]))


def test_what_is_no_empty_directory_is_refused(point: bytes) -> None:
    for path, why in ((b"/file", "is not a directory"), (b"/missing", "is missing"), (b"", "is not empty")):
        Path(os.fsdecode(point), "file").touch()
        with pytest.raises(UsageError, match=why):
            open_point(point + path, [])


def test_a_forbidden_place_is_refused_by_whatever_path(tmp_path: Path) -> None:
    inside = tmp_path / "replica" / "deep" / "point"
    inside.mkdir(parents=True)
    (tmp_path / "link").symlink_to("replica")
    for forbidden in ("replica", "replica/deep/point", "link/deep"):
        with pytest.raises(UsageError, match="lies in"):
            open_point(bytes(inside), [bytes(tmp_path / forbidden)])
    (tmp_path / "beside").mkdir()
    os.close(open_point(bytes(tmp_path / "beside"), [bytes(tmp_path / "replica")]))


@pytest.mark.root
def test_a_bind_mount_does_not_hide_a_forbidden_place(tmp_path: Path) -> None:
    (tmp_path / "replica" / "deep" / "point").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "replica/deep", tmp_path / "other"], check=True)  # noqa: S603, S607
    try:
        with pytest.raises(UsageError, match="lies in"):
            open_point(bytes(tmp_path / "other" / "point"), [bytes(tmp_path / "replica")])
    finally:
        subprocess.run(["umount", tmp_path / "other"], check=True)  # noqa: S603, S607


async def test_nothing_is_mounted_in_the_tree_itself(tmp_path: Path, lines: list[Line]) -> None:
    (tmp_path / "point").mkdir()
    with pytest.raises(UsageError, match="lies in"):
        async with mounted(LocalTree(bytes(tmp_path)), bytes(tmp_path / "point"), lines.append):
            pass


def _tree() -> MemoryTree:
    disk = MemoryDisk()
    disk.roots[b"/root"] = disk.directory(b"/root")
    return MemoryTree(disk, b"/root")


async def test_what_the_host_lacks_is_said(point: bytes, lines: list[Line], monkeypatch: pytest.MonkeyPatch) -> None:
    tried = partial(mounted, _tree(), point, lines.append)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(device, "_DEVICE", "/dev/fuse-that-is-missing")
    with pytest.raises(CannotMount, match="the kernel has no FUSE") as raised:
        async with tried():
            pass
    assert raised.value.code is Code.SNAPSHOT_MOUNT
    monkeypatch.setattr(device, "_DEVICE", "/dev/null")
    monkeypatch.setattr(device, "mount", _refuse)
    with pytest.raises(CannotMount, match="CAP_SYS_ADMIN is needed"):
        async with tried():
            pass
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotMount, match="install the package fuse3"):
        async with tried():
            pass
    with pytest.raises(CannotMount, match="only root may mount"):
        async with tried(writable=True):
            pass


def _refuse(*_: object, is_read_only: bool) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


async def test_several_trees_need_names(point: bytes, lines: list[Line]) -> None:
    for names in ([], [b"", b"one"], [b"one", b"a/b"]):
        with pytest.raises(UsageError, match="need a name each"):
            async with mounted({name: _tree() for name in names}, point, lines.append):
                pass
