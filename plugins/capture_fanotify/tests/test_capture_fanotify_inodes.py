"""Files that change under another name than those beneath the roots: the inode number says which."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from i2_capture_fanotify import links as links_module
from i2_capture_fanotify.handle import handle_of, inode_of
from i2_capture_fanotify.links import Links

pytestmark = pytest.mark.root
Watch = Callable[..., Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@contextmanager
def opened(path: Path, flags: int = os.O_WRONLY | os.O_CREAT) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_a_handle_tells_the_inode_number(
    kind: str, mount_image: Callable[[str, Path], Path], mount: Callable[..., None], root: Path
) -> None:
    if kind == "tmpfs":
        mount("-t", "tmpfs", "none", root)
    else:
        mount_image(kind, root)
    with opened(root / "file"), opened(root, os.O_RDONLY) as top:
        assert inode_of(handle_of(top, b"file")[0]) == (root / "file").stat().st_ino
    assert inode_of(b"") == inode_of(b"\x08\0\0\0\x77\0\0\0" + bytes(8)) == 0


async def test_a_name_that_is_gone_comes_with_its_inode(watch: Watch, root: Path) -> None:
    async with watch(root) as ears:
        with opened(root / "log") as log:
            (root / "log.1").hardlink_to(root / "log")
            (root / "log").unlink()
            (root / "log").touch()
            await ears.drain()
            ears.inodes.clear()
            os.write(log, b"after the rotation")
            await ears.drain()
        assert (b"log", (root / "log.1").stat().st_ino) in ears.inodes
        assert ears.tree.differences() == []


async def test_a_file_that_was_replaced_by_a_rename(watch: Watch, root: Path) -> None:
    async with watch(root) as ears:
        with opened(root / "a") as old:
            (root / "other").hardlink_to(root / "a")
            (root / "b").touch()
            (root / "b").rename(root / "a")
            await ears.drain()
            os.write(old, b"x")
            await ears.drain()
        assert ears.tree.differences() == []


@pytest.mark.parametrize("within", [True, False])
async def test_a_file_that_had_no_name_when_it_was_opened(watch: Watch, root: Path, within: bool) -> None:
    made = root if within else root.parent
    async with watch(root) as ears:
        fd = os.open(made, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.link(f"/proc/self/fd/{fd}", root / "named", src_dir_fd=fd, follow_symlinks=True)
        await ears.drain()
        os.write(fd, b"later")
        os.close(fd)
        await ears.drain()
        assert ears.tree.differences() == []


@pytest.mark.parametrize("early", [True, False])
async def test_a_link_outside(watch: Watch, root: Path, tmp_path: Path, early: bool) -> None:
    outside = tmp_path / "outside"
    (root / "file").touch()
    if early:
        outside.hardlink_to(root / "file")
    async with watch(root) as ears:
        if not early:
            outside.hardlink_to(root / "file")
        outside.chmod(0o640)
        await ears.drain()
        assert ears.outside == [(root / "file").stat().st_ino]
        assert ears.tree.differences() == []


async def test_a_link_outside_that_is_written_all_the_time(
    watch: Watch, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at once, then at intervals, and the last change is not forgotten."""
    monkeypatch.setattr(links_module, "APART_S", 0.2)
    outside = tmp_path / "outside"
    (root / "file").touch()
    outside.hardlink_to(root / "file")
    async with watch(root) as ears:
        outside.write_text("first")
        await ears.drain()
        outside.write_text("second")
        while ears.tree.differences():
            await ears.hear()
        assert len(ears.outside) > 1


async def test_other_files_outside_tell_nothing(watch: Watch, root: Path, tmp_path: Path) -> None:
    async with watch(root) as ears:
        for number in range(100):
            (tmp_path / f"{number}").write_text("x")
            (tmp_path / f"{number}").chmod(0o600)
        await ears.drain()
        for number in range(50):
            (tmp_path / f"link{number}").hardlink_to(tmp_path / f"{number}")
            (tmp_path / f"{number}").unlink()
            (tmp_path / f"link{number}").write_text("x")
        await ears.drain()
        mine = {path.stat().st_ino for path in tmp_path.iterdir()}
        assert not mine & set(ears.outside)


def test_reports_of_one_file_keep_apart() -> None:
    links, apart = Links(), links_module.APART_S
    reported = [links.may_report(b"a", mask, now) for mask, now in ((2, 10.0), (2, 10.1), (4, 10.2))]
    assert reported == [True, False, False]
    assert links.may_report(b"b", 2, 11.0)
    assert (links.due_at, links.due(11.0)) == (10.0 + apart, [])
    assert links.due(10.0 + apart) == [(b"a", 6)]
    assert links.due(11.0 + apart) == []  # nothing more happened to b
    assert (links.due_at, links.due(100.0)) == (10.0 + 2 * apart, [])
    assert links.due_at is None


def test_what_is_remembered_of_links_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "REMEMBERED", 8)
    links = Links()
    assert links.has_several(b"0") is None
    assert not links.note(b"0", several=False) and links.has_several(b"0") is False
    links.recounted(b"0")
    assert links.has_several(b"0") is None and links.was_recounted(b"0")
    assert links.note(b"0", several=True) and links.has_several(b"0") is True
    for number in range(1, 20):
        links.recounted(b"%d" % number)
        links.note(b"%d" % number, several=True)
    assert links.has_several(b"0") is None and links.has_several(b"19") is True
    assert not links.was_recounted(b"0") and links.was_recounted(b"19")
