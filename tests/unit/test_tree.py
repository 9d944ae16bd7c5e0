"""Reading a source tree: a symlink is never followed, however fast it replaces a directory."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from i2core.api import xattr_digest
from i2core.api.tree import RootGone
from i2core.posix import syscalls
from i2core.posix import tree as tree_module
from i2core.posix.errnos import GONE
from i2core.posix.tree import LocalTree


@pytest.fixture(params=["openat2", "component by component"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalTree]:
    """A source beside a directory that must not be reached, on new and old kernels."""
    if request.param != "openat2":
        monkeypatch.setattr(tree_module, "open_beneath", syscalls.walk_beneath)
    (tmp_path / "source" / "dir" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "dir" / "file").write_text("inside")
    (tmp_path / "outside" / "sub").mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("outside")
    found = LocalTree(os.fsencode(tmp_path / "source"))
    yield found
    found.close()


def names(tree: LocalTree, path: bytes) -> set[bytes]:
    """The names in a directory."""
    with tree.directory(path) as directory:
        return {entry.name for entry in directory.entries()}


def test_names_of_any_bytes(tree: LocalTree) -> None:
    odd = {b"new\nline", b"\xff\xfe", b"n" * 255, b" ", b"-rf"}
    for name in odd:
        Path(os.fsdecode(tree.path + b"/dir/sub/" + name)).touch()
    assert names(tree, b"dir/sub") == odd


def test_no_name_is_reserved(tree: LocalTree, tmp_path: Path) -> None:
    (tmp_path / "source" / ".i2-staging").touch()
    assert names(tree, b"") == {b"dir", b".i2-staging"}


def test_a_symlink_is_data(tree: LocalTree, tmp_path: Path) -> None:
    (tmp_path / "source" / "trap").symlink_to(tmp_path / "outside")
    (tmp_path / "source" / "near").symlink_to("dir")
    for path in (b"trap", b"trap/sub", b"near", b"near/sub"):
        with pytest.raises(OSError) as refused:
            tree.directory(path)
        assert refused.value.errno in GONE
        assert tree.lookup(path + b"/file") is None
    trap = tree.lookup(b"trap")
    assert trap is not None
    assert stat.S_ISLNK(trap.mode)
    assert trap.target == os.fsencode(tmp_path / "outside")


@pytest.mark.parametrize("path", [b"missing", b"dir/missing/deeper", b"dir/file", b"dir/file/deeper"])
def test_what_is_no_directory_is_gone(tree: LocalTree, path: bytes) -> None:
    with pytest.raises(OSError) as refused:
        tree.directory(path)
    assert refused.value.errno in GONE


def swapping(path: Path, other: Path) -> Callable[[], None]:
    """Swaps a directory and a symlink to `other`, over and over, until called."""
    over = threading.Event()
    aside, link = path.with_name("aside"), path.with_name("link")

    def swap() -> None:
        while not over.is_set():
            link.symlink_to(other)
            path.rename(aside)
            link.rename(path)
            path.unlink()
            aside.rename(path)

    thread = threading.Thread(target=swap)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


def test_a_directory_that_is_swapped_for_a_symlink_leads_nowhere(tree: LocalTree, tmp_path: Path) -> None:
    end = swapping(tmp_path / "source" / "dir", tmp_path / "outside")
    seen: set[bytes] = set()
    refused = 0
    try:
        for _ in range(2000):
            try:
                seen |= names(tree, b"dir")
                seen |= names(tree, b"dir/sub")
            except OSError as error:
                assert error.errno in GONE
                refused += 1
            assert tree.lookup(b"dir/secret") is None
    finally:
        end()
    assert seen <= {b"file", b"sub"}
    assert refused


def test_a_root_of_one_file_shows_that_alone(tree: LocalTree) -> None:
    alone = LocalTree(tree.path + b"/dir", only=b"file")
    try:
        assert names(alone, b"") == {b"file"}
        with alone.directory(b"") as directory:
            assert directory.entry(b"sub") is not None, "only the listing is limited"
    finally:
        alone.close()


def test_a_root_that_was_replaced_is_not_present(tree: LocalTree, tmp_path: Path) -> None:
    assert tree.is_present()
    assert tree.lookup(b"") is not None
    (tmp_path / "source").rename(tmp_path / "moved")
    assert not tree.is_present()
    (tmp_path / "source").mkdir()
    assert not tree.is_present()
    assert tree.lookup(b"") is None
    assert names(tree, b"") == {b"dir"}


def test_paths_longer_than_one_call_takes(tree: LocalTree) -> None:
    fd = os.open(tree.path, os.O_RDONLY)
    name = b"d" * 255
    for _ in range(20):
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(os.open(b"bottom", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    path = b"/".join([name] * 20)
    assert names(tree, path) == {b"bottom"}
    assert tree.lookup(path + b"/bottom") is not None


def test_attributes(tree: LocalTree, tmp_path: Path) -> None:
    path = tmp_path / "source" / "dir" / "file"
    os.setxattr(path, "user.b", b"\0\xff")
    os.setxattr(path, "user.a", b"")
    pairs = ((b"user.a", b""), (b"user.b", b"\0\xff"))
    with tree.directory(b"dir") as directory, directory.open(b"file") as file:
        assert directory.xattrs(b"file") == file.xattrs() == pairs
        assert directory.xattrs(b"missing") == ()
        entry = directory.entry(b"file")
    assert entry is not None
    assert entry.xattrs == xattr_digest(pairs)


def test_an_error_that_is_no_absence_comes_out(tree: LocalTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    with tree.directory(b"dir") as directory:
        monkeypatch.setattr(os, "lstat", refuse)
        with pytest.raises(OSError, match="Input/output"):
            directory.entry(b"file")


def fds() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def test_at_rest_nothing_is_open(tmp_path: Path) -> None:
    before = fds()
    (tmp_path / "source/dir").mkdir(parents=True)
    tree = LocalTree(os.fsencode(tmp_path / "source"))
    assert fds() == before + 1
    tree.rest()
    assert fds() == before and tree.is_present() and fds() == before
    assert names(tree, b"") == {b"dir"} and fds() == before + 1
    tree.rest()
    assert tree.lookup(b"dir") is not None
    tree.close()
    tree.close()
    assert fds() == before


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made again"])
def test_a_root_that_was_removed_at_rest_does_not_count_as_empty(tmp_path: Path, again: bool) -> None:
    """It may even have the inode number of the previous one."""
    source = tmp_path / "source"
    source.mkdir()
    tree = LocalTree(os.fsencode(source))
    tree.rest()
    source.rmdir()
    if again:
        source.mkdir()
    before = fds()
    assert not tree.is_present()
    assert tree.lookup(b"") is None
    for look in (lambda: tree.lookup(b"file"), lambda: tree.directory(b""), lambda: tree.directory(b"dir")):
        with pytest.raises(RootGone) as caught:
            look()
        assert caught.value.obj == str(source)
    assert fds() == before
