"""Trees deeper than Python's stack, with paths longer than a system call accepts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from i2_sink_fs import paths as paths_module

from i2core.api import Change, Lost, Op, Place
from i2core.posix import trail as trail_module
from i2core.posix import tree as tree_module
from i2core.posix.syscalls import open_beneath

from . import pair
from .pair import open_nodes, until

SHAPES = [(1100, b"d"), (40, b"n" * 200)]
FLAGS = os.O_RDONLY | os.O_CLOEXEC


def make(top: Path, levels: int, name: bytes) -> bytes:
    """Creates a chain of directories; returns its path."""
    fd = os.open(top, FLAGS)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, FLAGS, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    return b"/".join([name] * levels)


def at(top: Path, path: bytes) -> int:
    """A descriptor of the directory at `path`; -1 when there is none."""
    fd = os.open(top, FLAGS)
    try:
        return open_beneath(fd, path, FLAGS)
    except FileNotFoundError:
        return -1
    finally:
        os.close(fd)


def write(top: Path, path: bytes, name: bytes, content: bytes) -> None:
    """Writes a file in the directory at `path`."""
    above = at(top, path)
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644, dir_fd=above)
    os.write(fd, content)
    os.close(fd)
    os.close(above)


def read(top: Path, path: bytes, name: bytes) -> bytes | None:
    """The content of a file in the directory at `path`; None when it is missing."""
    above = at(top, path)
    if above < 0:
        return None
    try:
        fd = os.open(name, FLAGS, dir_fd=above)
    except FileNotFoundError:
        return None
    finally:
        os.close(above)
    try:
        return os.read(fd, 1000)
    finally:
        os.close(fd)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A directory that is removed with everything beneath it; pytest's own removal fails for trees deeper than the
    stack."""
    yield tmp_path
    subprocess.run(["rm", "-rf", tmp_path], check=True)  # noqa: S603, S607


@pytest.mark.parametrize(("levels", "name"), SHAPES, ids=["levels", "bytes"])
async def test_a_deep_tree(home: Path, monkeypatch: pytest.MonkeyPatch, levels: int, name: bytes) -> None:
    monkeypatch.setattr(pair, "LIMIT_S", 60.0)
    async with open_nodes(home) as nodes:
        (nodes.source / "top").mkdir()
        path = b"top/" + make(nodes.source / "top", levels, name)
        write(nodes.source, path, b"file", b"mirrored")
        async with nodes.running():
            assert read(nodes.target, path, b"file") == b"mirrored"
            (nodes.source / "top").rename(nodes.source / "moved")
            moved = b"moved" + path[3:]
            write(nodes.source, moved, b"file", b"changed")
            nodes.capture.tell(Change(Op.RENAME, Place(0, b"top"), to=Place(0, b"moved"), is_dir=True))
            await until(lambda: read(nodes.target, moved, b"file") == b"changed")
            write(nodes.source, moved, b"fresh", b"fresh")
            nodes.capture.tell(Change(Op.CREATE, Place(0, moved + b"/fresh")))
            await until(lambda: read(nodes.target, moved, b"fresh") == b"fresh")
            (nodes.source / "other").mkdir()
            other = b"other/" + make(nodes.source / "other", levels, name)
            write(nodes.source, other, b"file", b"made at once")
            nodes.capture.tell(Change(Op.CREATE, Place(0, other + b"/file")))
            await until(lambda: read(nodes.target, other, b"file") == b"made at once")
            (nodes.source / "moved").rename(home / "outside")
            nodes.capture.tell(Change(Op.REMOVE, Place(0, b"moved"), is_dir=True), Lost(Place(0, b""), "overflow"))
            await until(lambda: not (nodes.target / "moved").exists())
            assert read(nodes.target, other, b"file") == b"made at once"


async def test_time_grows_with_the_depth_and_not_with_its_square(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured in names that the kernel resolves on both nodes. Opening every directory of this chain once by its whole
    path would resolve half a million."""
    monkeypatch.setattr(pair, "LIMIT_S", 60.0)
    levels, steps = 1000, 0

    def counted(fd: int, path: bytes, flags: int) -> int:
        nonlocal steps
        steps += path.count(b"/") + 1
        return open_beneath(fd, path, flags)

    for module in (tree_module, trail_module, paths_module):
        monkeypatch.setattr(module, "open_beneath", counted)
    async with open_nodes(home) as nodes:
        (nodes.source / "top").mkdir()
        path = b"top/" + make(nodes.source / "top", levels, b"d")
        write(nodes.source, path, b"file", b"mirrored")
        await nodes.run()
        first, steps = steps, 0
        await nodes.run()
        again = steps
        async with nodes.running():
            steps = 0
            write(nodes.source, path, b"file", b"changed")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, path + b"/file")))
            await until(lambda: read(nodes.target, path, b"file") == b"changed")
            live, steps = steps, 0
            (nodes.source / "other").mkdir()
            other = b"other/" + make(nodes.source / "other", levels, b"d")
            write(nodes.source, other, b"file", b"made at once")
            nodes.capture.tell(Change(Op.CREATE, Place(0, other + b"/file")))
            await until(lambda: read(nodes.target, other, b"file") == b"made at once")
    assert max(first, again, steps) < 150 * levels
    assert live < 20 * levels


@pytest.mark.parametrize("kind", ["symlink", "file", "missing", "name"])
def test_what_is_in_the_way_of_a_long_path(tmp_path: Path, kind: str) -> None:
    levels, name = 40, b"n" * 200
    path = make(tmp_path, levels, name)
    os.close(at(tmp_path, path))
    above = at(tmp_path, path[: -201 * 10])
    os.rename(name, b"real", src_dir_fd=above, dst_dir_fd=above)
    if kind == "symlink":
        os.symlink(b"real", name, dir_fd=above)
    elif kind == "file":
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=above))
    elif kind == "name":
        path = path[: -201 * 10] + b"/" + b"m" * 5000
    os.close(above)
    before = os.listdir("/proc/self/fd")
    top = os.open(tmp_path, FLAGS)
    with pytest.raises(OSError, match=r"Not a directory|levels of symbolic|No such file|too long"):
        open_beneath(top, path, FLAGS)
    os.close(top)
    assert os.listdir("/proc/self/fd") == before
