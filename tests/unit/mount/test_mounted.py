"""A mounted tree is the tree: each name, attribute, byte and hole, whatever kind of tree it is."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing

from i2core.api import Batch, Code, Kind, Record, SinkContext
from i2core.api.line import Line
from i2core.api.tree import Tree
from i2core.mount.mounted import mounted
from i2core.posix.tree import LocalTree
from i2core.testing import check_tree
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import MemorySink
from i2core.testing.memory_tree import MemoryTree
from i2core.testing.picture import meta_of
from i2core.testing.tree import OpenTree
from i2core.testing.trees import compare_trees
from i2core.testing.walks import of_directory, of_tree

pytestmark = pytest.mark.root
DIR = stat.S_IFDIR | 0o750
NAMES = 5000
"""More than one answer to the kernel has room for."""


# ------------------------------------------------------------------------------------------ trees of all kinds


async def _memory_tree(records: Sequence[Record]) -> Tree:
    disk = MemoryDisk()
    made = [Record(Kind.MKDIR, 0, b"", meta=meta_of(DIR)), *records]
    assert not (
        await MemorySink(SinkContext(roots=(b"/root",), allowed=(b"/root",)), disk).apply(Batch(1, made))
    ).failures
    return MemoryTree(disk, b"/root")


async def test_a_mount_keeps_the_contract_of_trees(tmp_path: Path, lines: list[Line]) -> None:
    """Whoever reads a tree may as well read the mount of that tree."""

    async with AsyncExitStack() as mounts:

        async def make(records: Sequence[Record]) -> OpenTree:
            tree = await _memory_tree(records)
            directory = tempfile.mkdtemp(dir=tmp_path).encode()
            await mounts.enter_async_context(mounted(tree, directory, lines.append))
            assert of_directory(directory) == of_tree(tree)
            return partial(LocalTree, directory)

        await check_tree(make)
        assert lines == []


def _objects(top: Path) -> None:
    """Objects of all types, with all that can be odd about them."""
    top.chmod(0o711)
    (top / "plain").write_bytes(b"content" * 100_000)
    (top / "plain").chmod(0o4755)
    (top / "secret").write_bytes(b"")
    (top / "secret").chmod(0)
    with (top / "sparse").open("wb") as file:
        file.write(b"head")
        file.seek(5 << 20)
        file.write(b"tail")
        file.truncate(7 << 20)
    os.mkdir(bytes(top) + b"/\xff\n dir \xfe")
    os.symlink(b"nowhere/\xff", bytes(top) + b"/\xff\n dir \xfe/link")
    os.link(top / "plain", top / "second")
    os.mkfifo(top / "fifo")
    os.mknod(top / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 0x12345))
    os.mknod(top / "tty", stat.S_IFCHR | 0o620, os.makedev(4, 64))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{os.open(top, os.O_PATH)}/socket")
    os.chown(top / "secret", 70_000, 80_000)
    os.setxattr(top / "plain", "user.one", b"\0\xff")
    os.setxattr(top / "plain", "trusted.two", b"")
    os.setxattr(top / "fifo", "trusted.three", b"3", follow_symlinks=False)
    acl = bytes.fromhex("0200000001000600ffffffff02000400e803000004000400ffffffff10000600ffffffff20000000ffffffff")
    os.setxattr(top / "secret", "system.posix_acl_access", acl)
    (top / ("n" * 255)).mkdir()
    for seconds, name in ((-5_000_000_000, "plain"), (9_000_000_000, "fifo")):
        os.utime(top / name, ns=(0, seconds * 1_000_000_000 + 123_456_789))


async def test_a_directory_of_this_machine_is_shown_as_it_is(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    async with AsyncExitStack() as mounts:
        top = tmp_path / "top"
        top.mkdir()
        _objects(top)
        with closing(LocalTree(bytes(top))) as tree:
            await mounts.enter_async_context(mounted(tree, point, lines.append))
            assert compare_trees(top, point) == []
            assert of_directory(point) == of_tree(tree)
            device = os.lstat(point + b"/disk")
            with pytest.raises(PermissionError):
                os.close(os.open(point + b"/tty", os.O_RDONLY))
            assert (os.major(device.st_rdev), os.minor(device.st_rdev)) == (259, 0x12345)
            assert os.statvfs(point).f_namemax == 255
            with pytest.raises(OSError, match="Read-only"):
                os.close(os.open(point + b"/new", os.O_WRONLY | os.O_CREAT))
            await mounts.aclose()
        assert lines == []


async def test_several_trees_have_names(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    async with AsyncExitStack() as mounts:
        names = [b"one", b"\xff two"]
        tops = [tmp_path / str(number) for number in range(2)]
        for number, top in enumerate(tops):
            top.mkdir()
            (top / "same").write_bytes(b"%d" % number)
        trees = {name: LocalTree(bytes(top)) for name, top in zip(names, tops, strict=True)}
        await mounts.enter_async_context(mounted(trees, point, lines.append))
        assert sorted(os.listdir(point)) == sorted(names)
        assert os.listdir(point + b"/one") == [b"same"]
        for name, top in zip(names, tops, strict=True):
            assert compare_trees(top, point + b"/" + name) == []
        assert len({os.lstat(point + b"/" + name + b"/same").st_ino for name in names}) == 2
        with pytest.raises(FileNotFoundError):
            os.lstat(point + b"/three")


async def test_a_root_that_is_gone_fails_alone(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    tops = [tmp_path / name for name in ("one", "two")]
    for top in tops:
        top.mkdir()
        (top / "file").write_bytes(b"content")
    trees = {top.name.encode(): LocalTree(bytes(top)) for top in tops}
    for tree in trees.values():
        tree.rest()
    shutil.rmtree(tops[0])
    async with mounted(trees, point, lines.append):
        assert sorted(os.listdir(point)) == [b"one", b"two"]
        with pytest.raises(OSError, match="Input/output error"):
            os.lstat(point + b"/one")
        assert os.listdir(point + b"/two") == [b"file"]
        await trio.testing.wait_all_tasks_blocked()
    cause = "cannot be read: the replicated directory is gone"
    assert [(line.code, line.cause) for line in lines] == [(Code.MOUNT_READ, cause)]


async def test_a_tree_that_is_limited_to_a_name_shows_no_other(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    async with AsyncExitStack() as mounts:
        top = tmp_path / "top"
        top.mkdir()
        for name in ("one", "two"):
            (top / name).write_bytes(b"")
        await mounts.enter_async_context(mounted(LocalTree(bytes(top), b"one"), point, lines.append))
        assert os.listdir(point) == [b"one"]
        with pytest.raises(FileNotFoundError):
            os.lstat(point + b"/two")


# ------------------------------------------------------------------------------------------ reading


async def test_random_reads_are_right(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    """Also beyond 4 GiB, at the end of the file, and without the page cache; by several threads at once."""
    async with AsyncExitStack() as mounts:
        top, rng = tmp_path / "top", random.Random(3)  # noqa: S311
        top.mkdir()
        content = rng.randbytes(3_000_001)
        far = (1 << 33) + 5
        with (top / "file").open("wb") as file:
            file.write(content)
            file.seek(far)
            file.write(content)
        size, seeds = far + len(content), count(10)
        await mounts.enter_async_context(mounted(LocalTree(bytes(top)), point, lines.append))

        def read() -> None:
            mine = random.Random(next(seeds))  # noqa: S311
            fds = [os.open(bytes(top) + b"/file", os.O_RDONLY), os.open(point + b"/file", os.O_RDONLY)]
            for _ in range(150):
                base = mine.choice((0, far, size - 70_000, len(content) - 1000))
                at, length = max(0, base + mine.randrange(-9000, 300_000)), mine.randrange(300_000)
                one, two = (os.pread(fd, length, at) for fd in fds)
                assert one == two, f"{length} bytes from {at} on are others"
            for fd in fds:
                os.close(fd)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(trio.to_thread.run_sync, read)


async def test_what_nobody_reads_is_closed(
    tmp_path: Path, point: bytes, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the file system of the tree can be unmounted, for example."""
    monkeypatch.setattr("i2core.mount.server.REST_S", 0.05)
    top = tmp_path / "top"
    (top / "dir").mkdir(parents=True)
    (top / "dir" / "file").write_bytes(b"content")
    tree = LocalTree(bytes(top))
    tree.is_fixed = True
    async with mounted(tree, point, lines.append):
        assert Path(os.fsdecode(point), "dir/file").read_bytes() == b"content"
        with trio.fail_after(60):
            while any(_is_beneath(each, top) for each in os.listdir("/proc/self/fd")):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert os.lstat(point + b"/dir/file").st_size == 7


def _is_beneath(descriptor: str, top: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith(f"{top}/")
    except OSError:
        return False


async def test_a_file_that_changes_is_read_as_it_is(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    """What was opened is read until it is closed; a name that leads to another file is another file."""
    async with AsyncExitStack() as mounts:
        top = tmp_path / "top"
        top.mkdir()
        (top / "file").write_bytes(b"old")
        await mounts.enter_async_context(mounted(LocalTree(bytes(top)), point, lines.append))
        file = os.open(point + b"/file", os.O_RDONLY)
        assert os.pread(file, 10, 0) == b"old"
        (top / "new").write_bytes(b"another")
        os.rename(top / "new", top / "file")
        assert os.pread(file, 10, 0) == b"old"
        os.close(file)
        await trio.sleep(1.1)  # the kernel remembers names for a second
        assert Path(os.fsdecode(point), "file").read_bytes() == b"another"
        (top / "file").write_bytes(b"changed in place")
        await trio.sleep(1.1)
        assert Path(os.fsdecode(point), "file").read_bytes() == b"changed in place"
        os.rename(top / "file", top / "elsewhere")
        await trio.sleep(1.1)
        assert os.listdir(point) == [b"elsewhere"]
        with pytest.raises(FileNotFoundError):
            os.lstat(point + b"/file")
        assert lines == []


async def test_a_directory_with_many_names_is_listed_in_pieces(tmp_path: Path, point: bytes, lines: list[Line]) -> None:
    """Each name once, also for two readers at once."""
    async with AsyncExitStack() as mounts:
        top = tmp_path / "top"
        top.mkdir()
        for number in range(NAMES):
            (top / str(number)).touch()
        await mounts.enter_async_context(mounted(LocalTree(bytes(top)), point, lines.append))
        with os.scandir(point) as one, os.scandir(point) as two:
            first = [next(one).name for _ in range(NAMES // 2)]
            assert len({item.name for item in two}) == NAMES
            names = [*first, *(item.name for item in one)]
        assert len(names) == len(set(names)) == NAMES
