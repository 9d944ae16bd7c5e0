"""Directories that move, vanish and come back while their events wait; bursts; odd paths."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.handle import handle_of

from i2core.api import Change, Lost, Op, Place

pytestmark = pytest.mark.root
Watch = Callable[..., Any]
Run = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def places(heard: list[Change | Lost]) -> set[bytes]:
    return {item.place.path for item in heard}


async def test_the_rename_of_a_tree_carries_both_names(watch: Watch, root: Path) -> None:
    (root / "a/b/c").mkdir(parents=True)
    async with watch(root) as ears:
        (root / "a/b/c/before").touch()
        await ears.drain()
        (root / "a").rename(root / "z")
        assert Change(Op.RENAME, Place(0, b"a"), True, Place(0, b"z")) in await ears.drain()
        (root / "z/b/c/after").touch()
        assert places(await ears.drain()) == {b"z/b/c/after"}


async def test_renames_that_the_kernel_merges_leave_no_stale_place(watch: Watch, root: Path) -> None:
    """Of to and fro and to again, only the first two are told."""
    (root / "to").mkdir()
    async with watch(root) as ears:
        (root / "to/seen").touch()
        await ears.drain()
        for _ in range(7):
            (root / "to").rename(root / "fro")
            (root / "fro").rename(root / "to")
        (root / "to").rename(root / "fro")
        await ears.drain()
        (root / "fro/file").touch()
        assert places(await ears.drain()) == {b"fro/file"}


async def test_rename_over_a_file_and_over_an_empty_directory(watch: Watch, root: Path) -> None:
    (root / "new").touch()
    (root / "old").touch()
    (root / "tree/in").mkdir(parents=True)
    (root / "empty").mkdir()
    async with watch(root) as ears:
        (root / "new").rename(root / "old")
        (root / "tree").rename(root / "empty")
        heard = await ears.drain()
        assert Change(Op.RENAME, Place(0, b"new"), False, Place(0, b"old")) in heard
        assert Change(Op.RENAME, Place(0, b"tree"), True, Place(0, b"empty")) in heard
        (root / "empty/in/file").touch()
        assert places(await ears.drain()) == {b"empty/in/file"}


async def test_events_of_a_directory_that_is_gone_need_no_name(watch: Watch, root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "kept").mkdir()
    async with watch(root) as ears:
        (root / "a/b/file").write_text("x")
        (root / "a/b/file").unlink()
        (root / "a/b").rename(root / "kept/b")
        (root / "kept/b").rmdir()
        (root / "a").rmdir()
        heard = await ears.drain()
        assert Change(Op.REMOVE, Place(0, b"a"), True) in heard
        assert not any(isinstance(item, Lost) for item in heard)
        assert ears.tree.differences() == []


async def test_links_of_different_moments_that_close_a_circle(watch: Watch, root: Path) -> None:
    """Known is "a in b". Then a leaves b, and b goes into a: read now, that is "b in a"."""
    (root / "b/a").mkdir(parents=True)
    async with watch(root, limit=16) as ears:
        (root / "b/a/file").touch()
        await ears.drain()
        for number in range(40):  # so that b is forgotten; a stays, as it is used in between
            (root / f"{number}").mkdir()
            (root / f"{number}/x").touch()
            (root / "b/a/file").write_text(f"{number}")
            await ears.drain()
        (root / "b/a/file").write_text("changed")
        (root / "b/a").rename(root / "a")
        (root / "b").rename(root / "a/b")
        (root / "a/b/file").touch()
        await ears.drain()
        assert ears.tree.differences() == []


async def test_moves_out_of_the_root_and_in(watch: Watch, root: Path, tmp_path: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    async with watch(root) as ears:
        (root / "a").rename(tmp_path / "out")
        assert await ears.drain() == [Change(Op.REMOVE, Place(0, b"a"), True)]
        (tmp_path / "out/b/file").touch()
        assert await ears.drain() == []
        (tmp_path / "out").rename(root / "in")
        (root / "in/b/file").write_text("x")
        heard = await ears.drain()
        assert heard[0] == Change(Op.CREATE, Place(0, b"in"), True)
        assert Change(Op.MODIFY, Place(0, b"in/b/file")) in heard


async def test_a_file_that_comes_and_goes_in_one_event_is_told_in_a_harmless_order(watch: Watch, root: Path) -> None:
    async with watch(root) as ears:
        (root / "file").write_text("x")
        (root / "file").unlink()
        assert await ears.drain() == [Change(Op.REMOVE, Place(0, b"file")), Change(Op.CREATE, Place(0, b"file"))]


async def test_excluded_names(watch: Watch, root: Path) -> None:
    (root / "no/deep").mkdir(parents=True)
    async with watch(root, wants_dir=lambda at, path: not path.startswith(b"no")) as ears:
        (root / "no/deep/file").touch()
        (root / "no").chmod(0o700)
        (root / "nothing").mkdir()
        (root / "nothing").rmdir()
        assert await ears.drain() == []
        (root / "no").rename(root / "yes")
        assert await ears.drain() == [Change(Op.CREATE, Place(0, b"yes"), True)]
        (root / "yes").rename(root / "no")
        assert await ears.drain() == [Change(Op.REMOVE, Place(0, b"yes"), True)]


async def test_nested_roots_are_both_told(watch: Watch, root: Path) -> None:
    (root / "in/dir").mkdir(parents=True)
    async with watch(root, root / "in") as ears:
        (root / "in/dir/file").touch()
        (root / "in/dir").rename(root / "in/other")
        (root / "in/other").rename(root / "other")
        heard = [item for item in await ears.drain() if isinstance(item, Change) and item.op is not Op.ATTRIB]
        assert {(change.op, change.place, change.to) for change in heard} == {
            (Op.CREATE, Place(0, b"other/file"), None),  # all three renames had been done when this was read
            (Op.RENAME, Place(0, b"in/dir"), Place(0, b"in/other")),
            (Op.RENAME, Place(1, b"dir"), Place(1, b"other")),
            (Op.RENAME, Place(0, b"in/other"), Place(0, b"other")),
            (Op.REMOVE, Place(1, b"other"), None),
        }


@pytest.mark.parametrize("name", [b"n" * 255, b"\xff\n\x80 (deleted)"])
async def test_paths_longer_than_the_kernel_can_print(watch: Watch, root: Path, name: bytes, run: Run) -> None:
    """proc(5) cannot tell paths of more than a page, the file system can hold them."""
    depth = 30
    fd = os.open(root, os.O_RDONLY)
    fds = [fd]
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=fds[-1])
            fds.append(os.open(name, os.O_RDONLY, dir_fd=fds[-1]))
        async with watch(root, limit=16) as ears:
            os.mkdir(b"leaf", dir_fd=fds[-1])
            heard = await ears.drain()
            assert heard == [Change(Op.CREATE, Place(0, b"/".join([name] * depth + [b"leaf"])), True)]
    finally:
        for fd in fds:
            os.close(fd)
        run("rm", "-rf", root)


async def test_a_reader_that_stalls_loses_nothing(watch: Watch, root: Path, mount: Callable[..., None]) -> None:
    mount("-t", "tmpfs", "none", root)
    for directory in range(50):
        (root / f"{directory}").mkdir()
    async with watch(root, looks=False) as ears:
        names = [b"%d/%d" % (number % 50, number) for number in range(100_000)]
        for name in names:
            os.mknod(os.path.join(os.fsencode(root), name))
        heard = await ears.drain()
        assert not any(isinstance(item, Lost) for item in heard)
        assert places(heard) == set(names)


async def test_a_queue_that_overflows_is_a_lost(watch: Watch, root: Path, mount: Callable[..., None]) -> None:
    mount("-t", "tmpfs", "none", root)
    limit = int(Path("/proc/sys/fs/fanotify/max_queued_events").read_text())
    (root / "dir").mkdir()
    async with watch(root, group=Group(limited=True), looks=False) as ears:
        for number in range(limit + 10):
            os.mknod(root / f"dir/{number}")
        (root / "dir").rename(root / "renamed")  # which nobody is told
        assert await ears.until_lost(Place(0, b"")) == "the kernel dropped events"
        (root / "renamed/file").touch()
        assert places(await ears.drain()) == {b"renamed/file"}


async def test_a_file_written_by_its_handle_alone(
    watch: Watch,
    root: Path,
    mount_image: Callable[[str, Path], Path],
    mount: Callable[..., None],
    tmp_path: Path,
    run: Run,
) -> None:
    """As an NFS server does: after a remount, and before anyone looks, the kernel knows no path of the file."""
    mount_image("ext4", root)
    (root / "dir").mkdir()
    (root / "dir/file").touch()
    top = os.open(root, os.O_PATH)
    handle = handle_of(top, b"dir/file")[0]
    os.close(top)
    run("umount", root)
    mount("-o", "loop", tmp_path / "ext4-root.img", root)
    async with watch(root, looks=False) as ears:
        top = os.open(root, os.O_RDONLY)
        fd = ctypes.CDLL(None).open_by_handle_at(top, handle, os.O_WRONLY)
        os.write(fd, b"content")
        os.close(fd)
        os.close(top)
        await ears.drain()
        assert ears.outside == [(root / "dir/file").stat().st_ino]
