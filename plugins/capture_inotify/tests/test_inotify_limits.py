"""What cannot be watched is never silent: limits, permissions, mounts, roots that go and come."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from i2_capture_inotify import capture as module
from i2_capture_inotify import kernel, mounts, plugin, unwatched
from i2_capture_inotify import probe as probe_module
from i2_capture_inotify.config import InotifyConfig
from i2_capture_inotify.kernel import Inotify

from i2core.api import CaptureContext, Change, Code, Lost, Op, Place, StopRule
from i2core.testing import file_ops

NOBODY = 65534
SOON = InotifyConfig(unwatched_interval=0.05)


class FewWatches(Inotify):
    """An instance whose user may have `allowed` watches."""

    allowed = 4

    def __init__(self) -> None:
        super().__init__()
        self.wds: set[int] = set()

    def watch(self, directory_fd: int) -> int:
        wd = super().watch(directory_fd)
        if wd not in self.wds and len(self.wds) >= FewWatches.allowed:
            super().unwatch(wd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.wds.add(wd)
        return wd


async def test_what_exceeds_the_limit_is_compared_at_an_interval_and_watched_when_it_is_raised(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Inotify", FewWatches)
    monkeypatch.setattr(unwatched, "limit", lambda name: FewWatches.allowed)
    monkeypatch.setattr(FewWatches, "allowed", 4)
    file_ops.carry_out([("makedirs", bytes(tmp_path) + b"/%d/sub" % i) for i in range(4)])
    async with listening(tmp_path, config=SOON) as ear:
        for _ in range(3):
            ear.forget()
            await ear.until(lambda heard: sum(isinstance(item, Lost) for item in heard) >= 2)
        (line,) = ear.said
        assert "each of 9 directories" in line
        assert "allows this user 4" in line
        assert "sysctl -w fs.inotify.max_user_watches=65536" in line
        watched = {node.wd for node in ear.capture._table.by_wd.values()}
        assert len(watched) == 4
        for i in range(4):  # watched or not: what happens there becomes known
            (tmp_path / str(i) / "sub/file").touch()
        (tmp_path / "new").mkdir()
        (tmp_path / "new/file").touch()
        await ear.until_known()
        monkeypatch.setattr(FewWatches, "allowed", 100)
        await ear.until(lambda heard: len(ear.capture._table.by_wd) == 10)
        ear.forget()
        for i in range(4):
            (tmp_path / str(i) / "sub/file").write_bytes(b"x")
            await ear.until_named(b"%d/sub/file" % i)
        assert len(ear.said) == 1


async def test_many_unwatched_trees_are_one_loss(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Inotify", FewWatches)
    monkeypatch.setattr(FewWatches, "allowed", 4)
    monkeypatch.setattr(unwatched, "MANY_UNWATCHED", 5)
    file_ops.carry_out([("mkdir", bytes(tmp_path) + b"/%d" % i) for i in range(20)])
    async with listening(tmp_path, config=SOON) as ear:
        await ear.until_lost(b"")
        assert ear.heard == [Lost(Place(0, b""), "17 directories are not watched")]


async def test_no_instance_left_stops_the_rule_with_the_setting_that_mends_it(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> Inotify:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "Inotify", refuse)
    monkeypatch.setattr(probe_module, "Inotify", refuse)
    with pytest.raises(StopRule) as caught:
        async with listening(tmp_path):
            pass
    assert caught.value.code is Code.CAPTURE_UNFIT
    assert "max_user_instances" in str(caught.value)
    found = plugin.probe_inotify(CaptureContext(roots=(bytes(tmp_path),)))
    assert not found.works
    assert "max_user_instances" in found.why


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A directory of the user nobody, as whom the test runs."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    with tempfile.TemporaryDirectory() as made:
        os.chown(made, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(made)
        finally:
            os.seteuid(0)


@pytest.mark.root
async def test_a_directory_that_may_not_be_read_is_compared_at_an_interval_until_it_may(
    as_nobody: Path, listening: Any
) -> None:
    for name in ("shut", "open"):
        (as_nobody / name).mkdir()
    (as_nobody / "shut/deep").mkdir()
    (as_nobody / "shut").chmod(0o300)
    async with listening(as_nobody, config=SOON) as ear:
        await ear.until_lost(b"shut")
        assert "Permission denied" in ear.said[0]
        assert "shut" in ear.said[0]
        (as_nobody / "open/file").touch()
        await ear.until_named(b"open/file")
        (as_nobody / "shut").chmod(0o700)
        await ear.until(lambda heard: Change(Op.CREATE, Place(0, b"shut"), is_dir=True) in heard)
        (as_nobody / "shut/deep/file").touch()
        await ear.until_named(b"shut/deep/file")
        assert len(ear.said) == 1


@pytest.mark.parametrize("how", ["removed", "moved", "parent moved"])
async def test_a_root_that_goes_is_lost_and_one_that_comes_again_is_watched(
    how: str, tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.05)
    parent = tmp_path / "parent"
    root, other = parent / "root", tmp_path / "other"
    (root / "dir").mkdir(parents=True)
    other.mkdir()
    async with listening(root, other) as ear:
        if how == "removed":
            file_ops.carry_out([("rmtree", bytes(root))])
        elif how == "moved":
            root.rename(tmp_path / "elsewhere")
        else:
            parent.rename(tmp_path / "elsewhere")
        await ear.until_lost(root=0)
        ear.forget()
        if how == "moved":
            (tmp_path / "elsewhere/dir/outside").touch()
        (other / "file").touch()
        await ear.until_named(b"file", root=1)
        assert all(item.place.root == 1 for item in ear.heard)
        (root / "dir").mkdir(parents=True)
        await ear.until_lost(root=0)
        ear.forget()
        (root / "dir/file").touch()
        await ear.until_named(b"dir/file")


async def test_nested_roots_are_both_served(tmp_path: Path, listening: Any) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    async with listening(tmp_path, inner, config=SOON) as ear:
        (inner / "file").touch()
        await ear.until(lambda heard: {0, 1} <= {i.place.root for i in heard})
        await ear.until_known()
        assert "two places" in ear.said[0]


def call(*command: str | Path) -> None:
    """Runs a command of the system."""
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603


@pytest.fixture
def may_mount(tmp_path: Path) -> None:
    """Skips where nothing may be mounted."""
    try:
        call("mount", "-t", "tmpfs", "none", tmp_path)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"nothing may be mounted here: {error}")
    call("umount", tmp_path)


@pytest.mark.root
@pytest.mark.usefixtures("may_mount")
async def test_what_is_mounted_beneath_a_root_is_watched_and_so_is_what_was_beneath_it(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_S", 0.05)
    point = tmp_path / "a dir/point"
    point.mkdir(parents=True)
    async with listening(tmp_path) as ear:
        file_ops.carry_out([("write", bytes(point) + b"/below", b"")])
        call("mount", "-t", "tmpfs", "none", point)
        try:
            await ear.until(lambda heard: Change(Op.CREATE, Place(0, b"a dir/point"), is_dir=True) in heard)
            (point / "on-tmpfs").touch()
            await ear.until_named(b"a dir/point/on-tmpfs")
            ear.forget()
        finally:
            call("umount", point)
        await ear.until_lost(b"a dir/point")
        await ear.until(lambda heard: Change(Op.CREATE, Place(0, b"a dir/point"), is_dir=True) in heard)
        (point / "below").write_bytes(b"x")
        await ear.until_named(b"a dir/point/below")
        await ear.until_known()


MOUNTINFO = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:50 / /srv/a\040b\012c rw - nfs4 host:/export rw
31 22 0:51 / /srv/twice rw - tmpfs none rw
32 31 0:52 / /srv/twice rw - xfs /dev/sdb rw
"""


@pytest.fixture
def mountinfo(tmp_path: Path) -> dict[bytes, mounts.Mount]:
    """A host with a remote file system at a name with a blank and a newline."""
    (tmp_path / "mountinfo").write_bytes(MOUNTINFO)
    return mounts.read_mounts(str(tmp_path / "mountinfo"))


def test_mounts_are_read_with_their_escapes_and_the_topmost_counts(mountinfo: dict[bytes, mounts.Mount]) -> None:
    assert mountinfo[b"/srv/a b\nc"] == mounts.Mount(30, b"/srv/a b\nc", b"nfs4")
    assert mountinfo[b"/srv/twice"].fstype == b"xfs"
    assert mounts.read_mounts("/nowhere") == {}


def test_the_file_system_of_a_path_is_the_nearest_above(mountinfo: dict[bytes, mounts.Mount]) -> None:
    for path, fstype in ((b"/", b"ext4"), (b"/srv", b"ext4"), (b"/srv/a b\nc/x/y", b"nfs4"), (b"/srv/twice", b"xfs")):
        mount = mounts.mount_of(path, mountinfo)
        assert mount is not None
        assert mount.fstype == fstype
    assert set(mounts.beneath(b"/srv", mountinfo)) == {b"a b\nc", b"twice"}
    assert set(mounts.beneath(b"/", mountinfo)) == {b"srv/a b\nc", b"srv/twice"}
    assert mounts.mount_of(b"/a/b", {}) is None


def test_the_probe_refuses_file_systems_that_others_change(
    monkeypatch: pytest.MonkeyPatch, mountinfo: dict[bytes, mounts.Mount]
) -> None:
    monkeypatch.setattr(probe_module, "read_mounts", lambda: mountinfo)
    found = plugin.probe_inotify(CaptureContext(roots=(b"/srv/a b\nc/data",)))
    assert not found.works
    assert "nfs4" in found.why


def test_the_probe_counts_the_directories_and_refuses_more_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_ops.carry_out([("makedirs", bytes(tmp_path) + b"/%d/skip/deep" % i) for i in range(5)])
    context = CaptureContext(roots=(bytes(tmp_path),), wants_dir=lambda root, path: not path.endswith(b"/skip"))
    found = plugin.probe_inotify(context)
    assert found.works
    assert found.why.startswith("6 directories")
    monkeypatch.setattr(probe_module, "limit", lambda name: 5)
    found = plugin.probe_inotify(context)
    assert not found.works
    assert "at least 6 directories" in found.why
    assert "sysctl -w fs.inotify.max_user_watches=65536" in found.why
    assert "\n" not in found.why


def test_the_limits_of_this_host_can_be_read() -> None:
    assert kernel.limit("max_user_watches") > 0
    assert kernel.limit("no_such_limit") == 0


async def test_remote_file_systems_beneath_a_root_are_compared_at_an_interval(
    tmp_path: Path, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = bytes(tmp_path) + b"/share"
    os.mkdir(point)
    monkeypatch.setattr(unwatched, "read_mounts", lambda: {point: mounts.Mount(9, point, b"cifs")})
    async with listening(tmp_path, config=SOON) as ear:
        for _ in range(2):
            ear.forget()
            await ear.until_lost(b"share")
        (line,) = ear.said
        assert "cifs" in line
