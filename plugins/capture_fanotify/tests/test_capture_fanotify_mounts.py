"""Roots and mounts that come, go, move or are replaced; file systems that cannot be watched."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from i2_capture_fanotify import marks
from i2_capture_fanotify.mounts import Mount, parse_mountinfo
from i2_capture_fanotify.plugin import probe_fanotify

from i2core.api import CaptureContext, Change, Code, Lost, Op, Place, StopRule

pytestmark = pytest.mark.root
Watch = Callable[..., Any]
Mounter = Callable[..., None]
Run = Callable[..., str]


def probe(*roots: Path) -> Any:
    return probe_fanotify(CaptureContext(roots=tuple(os.fsencode(root) for root in roots)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "above/root"
    path.mkdir(parents=True)
    return path


# ------------------------------------------------------------------------------------------------ mounts beneath


async def test_a_mount_that_comes_and_goes_is_lost_and_watched(
    watch: Watch, root: Path, mount: Mounter, run: Run
) -> None:
    point = root / "dir/mnt"
    point.mkdir(parents=True)
    async with watch(root) as ears:
        mount("-t", "tmpfs", "none", point)
        assert await ears.until_lost(Place(0, b"dir/mnt")) == "the directory was mounted"
        (point / "file").touch()
        assert Change(Op.CREATE, Place(0, b"dir/mnt/file")) in await ears.drain()
        run("umount", point)  # which would be refused if the capture held it
        await ears.until_lost(Place(0, b"dir/mnt"))
        assert ears.tree.differences() == []


async def test_a_mount_that_was_there_before(watch: Watch, root: Path, mount: Mounter) -> None:
    point = root / "mnt"
    point.mkdir()
    mount("-t", "tmpfs", "none", point)
    (point / "deep/er").mkdir(parents=True)
    async with watch(root) as ears:
        (point / "deep/er/file").touch()
        point.chmod(0o700)
        heard = await ears.drain()
        assert Change(Op.CREATE, Place(0, b"mnt/deep/er/file")) in heard
        assert Change(Op.ATTRIB, Place(0, b"mnt"), True) in heard


async def test_a_file_system_that_is_mounted_anew(
    watch: Watch, root: Path, mount: Mounter, mount_image: Callable[[str, Path], Path], tmp_path: Path, run: Run
) -> None:
    """Its marks went with it, though all looks as before."""
    point = mount_image("ext4", root / "mnt")
    async with watch(root) as ears:
        run("umount", point)
        mount("-o", "loop", tmp_path / "ext4-mnt.img", point)
        await ears.until_lost(Place(0, b"mnt"))
        (point / "file").touch()
        assert Change(Op.CREATE, Place(0, b"mnt/file")) in await ears.drain()


async def test_a_directory_above_a_mount_is_renamed(watch: Watch, root: Path, mount: Mounter) -> None:
    (root / "a/mnt").mkdir(parents=True)
    mount("-t", "tmpfs", "none", root / "a/mnt")
    async with watch(root) as ears:
        (root / "a").rename(root / "b")
        try:
            await ears.until_lost(Place(0, b"b/mnt"))
            (root / "b/mnt/file").touch()
            assert Change(Op.CREATE, Place(0, b"b/mnt/file")) in await ears.drain()
        finally:
            (root / "b").rename(root / "a")


async def test_a_bind_mount_shows_a_directory_twice(watch: Watch, root: Path, mount: Mounter, tmp_path: Path) -> None:
    (root / "real/dir").mkdir(parents=True)
    (root / "bound").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "foreign").mkdir()
    mount("--bind", root / "real", root / "bound")
    mount("--bind", tmp_path / "elsewhere", root / "foreign")
    async with watch(root) as ears:
        (root / "bound/dir/file").touch()
        (tmp_path / "elsewhere/file").touch()
        heard = await ears.drain()
        assert {item.place.path for item in heard} == {b"real/dir/file", b"bound/dir/file", b"foreign/file"}
        (root / "real/dir").rename(root / "real/other")
        heard = await ears.drain()
        assert Change(Op.RENAME, Place(0, b"real/dir"), True, Place(0, b"real/other")) in heard
        assert Change(Op.RENAME, Place(0, b"bound/dir"), True, Place(0, b"bound/other")) in heard


async def test_a_root_that_is_a_bind_mount(watch: Watch, root: Path, mount: Mounter, tmp_path: Path) -> None:
    (tmp_path / "real/dir").mkdir(parents=True)
    mount("--bind", tmp_path / "real", root)
    async with watch(root) as ears:
        (tmp_path / "real/dir/file").touch()
        (tmp_path / "beside").touch()
        assert {item.place.path for item in await ears.drain()} == {b"dir/file"}


async def test_only_parts_of_a_file_system_are_mounted(
    watch: Watch, root: Path, mount: Mounter, mount_image: Callable[[str, Path], Path], tmp_path: Path, run: Run
) -> None:
    """Nowhere is the whole of it to be seen; what lies beside both parts is not told."""
    whole = mount_image("xfs", tmp_path / "whole")
    for name in ("one", "two/sub", "three"):
        (whole / name).mkdir(parents=True)
    other = tmp_path / "other"
    for at in ("one", "two", "three"):
        (other / at).mkdir(parents=True)
        mount("--bind", whole / at, other / at)
    run("umount", whole)
    async with watch(other / "one", other / "two") as ears:
        (other / "three/file").touch()
        (other / "two/sub/file").touch()
        (other / "one/file").touch()
        assert {item.place for item in await ears.drain()} == {Place(1, b"two/sub/file"[4:]), Place(0, b"file")}


async def test_mounts_that_cannot_be_watched_are_said(watch: Watch, root: Path, mount: Mounter) -> None:
    (root / "proc").mkdir()
    mount("-t", "proc", "none", root / "proc")
    (root / "file").touch()
    mount("--bind", "/etc/hostname", root / "file")
    found = probe(root)
    assert found.works and "not proc" in found.why
    async with watch(root, looks=False) as ears:
        assert len(ears.said) == 2 and all("periodic scan" in line for line in ears.said)
        (root / "beside").touch()
        assert {item.place.path for item in await ears.drain()} == {b"beside"}


# ------------------------------------------------------------------------------------------------ btrfs


async def test_a_btrfs_subvolume_and_one_within(
    watch: Watch, root: Path, mount: Mounter, mount_image: Callable[[str, Path], Path], tmp_path: Path, run: Run
) -> None:
    """Only its top may be marked, which need not be mounted."""
    whole = mount_image("btrfs", tmp_path / "whole")
    for name in ("sub", "sub/within"):
        run("btrfs", "subvolume", "create", whole / name)
    device = run("findmnt", "-no", "SOURCE", whole).strip()
    mount("-o", "subvol=sub", device, root)
    run("umount", whole)
    async with watch(root) as ears:
        (root / "within/dir").mkdir()
        (root / "within/dir/file").touch()
        run("btrfs", "subvolume", "create", root / "new")
        (root / "new/file").touch()
        await ears.drain()
        (root / "within/dir").rename(root / "within/moved")
        (root / "within/moved/file").write_text("x")
        assert {item.place.path for item in await ears.drain()} >= {b"within/dir", b"within/moved/file"}
        assert ears.tree.differences() == []


# ------------------------------------------------------------------------------------------------ roots


async def test_a_root_that_is_moved_away_and_replaced(watch: Watch, root: Path, tmp_path: Path) -> None:
    async with watch(root) as ears:
        root.rename(tmp_path / "old")
        assert "gone" in await ears.until_lost(Place(0, b""))
        (tmp_path / "old/not-ours").touch()
        root.mkdir()
        (root / "early").touch()
        assert await ears.until_lost(Place(0, b"")) == "the root exists again"
        assert ears.tree.differences() == []
        (root / "file").touch()
        assert {item.place.path for item in await ears.drain()} == {b"file"}


async def test_a_root_that_is_removed_and_made_again_at_once(watch: Watch, root: Path) -> None:
    async with watch(root) as ears:
        root.rmdir()
        root.mkdir()
        (root / "early").touch()
        assert await ears.until_lost(Place(0, b"")) == "another directory is here now"
        assert ears.tree.differences() == []


async def test_a_directory_above_the_root_is_moved_away_and_comes_back(watch: Watch, root: Path) -> None:
    above = root.parent
    async with watch(root) as ears:
        above.rename(above.with_name("aside"))
        assert "gone" in await ears.until_lost(Place(0, b""))
        (above.with_name("aside") / "root/while-away").touch()
        above.with_name("aside").rename(above)
        assert await ears.until_lost(Place(0, b"")) == "the root exists again"
        assert ears.tree.differences() == []


async def test_a_symlink_in_the_place_of_the_root_is_no_root(watch: Watch, root: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    async with watch(root) as ears:
        root.rename(tmp_path / "old")
        root.symlink_to(trap)
        assert "gone" in (why := await ears.until_lost(Place(0, b""))) or "symlink" in why
        (trap / "not-ours").touch()
        root.unlink()
        (tmp_path / "old").rename(root)
        heard: list[Change | Lost] = []
        while Lost(Place(0, b""), "the root exists again") not in heard:
            heard += await ears.hear()
        assert not any(b"not-ours" in item.place.path for item in heard)


async def test_a_root_whose_file_system_is_unmounted(
    watch: Watch, root: Path, mount: Mounter, tmp_path: Path, run: Run
) -> None:
    mount("-t", "tmpfs", "none", root)
    async with watch(root) as ears:
        run("umount", root)
        assert await ears.until_lost(Place(0, b"")) == "another directory is here now"
        (root / "beneath the mount").touch()
        assert {item.place.path for item in await ears.drain()} == {b"beneath the mount"}
        mount("-t", "tmpfs", "none", root)
        await ears.until_lost(Place(0, b""))
        (root / "again").touch()
        assert {item.place.path for item in await ears.drain()} == {b"again"}


async def test_a_root_given_through_a_symlink(watch: Watch, root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(root)
    async with watch(tmp_path / "way") as ears:
        (root / "file").touch()
        assert {item.place.path for item in await ears.drain()} == {b"file"}


# ------------------------------------------------------------------------------------------------ refusals


async def test_a_root_that_is_missing(watch: Watch, root: Path) -> None:
    assert not probe(root / "missing").works
    with pytest.raises(StopRule) as caught:
        async with watch(root, root / "missing"):
            pass
    assert caught.value.code is Code.SOURCE_GONE and caught.value.obj == str(root / "missing")


async def test_a_file_system_without_handles_is_refused(watch: Watch) -> None:
    found = probe(Path("/proc/sys"))
    assert (not found.works and "handles" in found.why) or "fsid" in found.why
    with pytest.raises(StopRule) as caught:
        async with watch(Path("/proc/sys")):
            pass
    assert caught.value.code is Code.CAPTURE_UNFIT and caught.value.obj == "/proc/sys"


def test_network_file_systems_are_refused_loudly(root: Path, mount: Mounter, monkeypatch: pytest.MonkeyPatch) -> None:
    mount("-t", "tmpfs", "none", root)
    assert probe(root).works
    monkeypatch.setattr(marks, "NETWORK", {b"tmpfs"})
    found = probe(root)
    assert not found.works and "network file system" in found.why


@pytest.mark.parametrize("capability", ["sys_admin", "dac_read_search"])
def test_a_missing_capability_is_named(root: Path, capability: str, run: Run) -> None:
    code = f"from i2_capture_fanotify.plugin import *; print(probe_fanotify(CaptureContext(roots=({bytes(root)!r},))))"
    told = run("setpriv", "--bounding-set", f"-{capability}", sys.executable, "-c", code)
    assert "works=False" in told and f"CAP_{capability.upper()}" in told


def test_mountinfo_with_blanks_and_newlines() -> None:
    text = rb"""27 1 254:0 / / rw - ext4 /dev/vda rw
44 27 0:39 /a\040b /mnt/new\012line\134\011 rw,relatime shared:1 master:2 - btrfs /dev/loop0 rw
"""
    assert parse_mountinfo(text) == [
        Mount(27, b"254:0", b"/", b"/", b"ext4"),
        Mount(44, b"0:39", b"/a b", b"/mnt/new\nline\\\t", b"btrfs"),
    ]
