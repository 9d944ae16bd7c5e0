"""Reading a source tree: a symlink is never a way, however fast it is swapped in."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from i2core.api import syscalls, xattr_digest
from i2core.api.entries import GONE, xattrs_at, xattrs_of_fd
from i2core.pipeline import tree as tree_module
from i2core.pipeline.tree import SourceTree


@pytest.fixture(params=["openat2", "component by component"])
def tree(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceTree]:
    """A source beside a directory that nothing may reach, on kernels new and old."""
    if request.param != "openat2":
        monkeypatch.setattr(tree_module, "open_beneath", syscalls.walk_beneath)
    (tmp_path / "source" / "dir" / "sub").mkdir(parents=True)
    (tmp_path / "source" / "dir" / "file").write_text("inside")
    (tmp_path / "outside" / "sub").mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("outside")
    found = SourceTree(os.fsencode(tmp_path / "source"))
    yield found
    found.close()


def names(tree: SourceTree, path: bytes) -> set[bytes]:
    """The names in a directory."""
    with tree.directory(path) as fd:
        return {entry.name for entry in tree.entries(fd, at_root=not path)}


def test_names_of_any_bytes(tree: SourceTree) -> None:
    odd = {b"new\nline", b"\xff\xfe", b"n" * 255, b" ", b"-rf"}
    for name in odd:
        Path(os.fsdecode(tree.path + b"/dir/sub/" + name)).touch()
    assert names(tree, b"dir/sub") == odd


def test_our_own_names_are_left_out(tree: SourceTree, tmp_path: Path) -> None:
    (tmp_path / "source" / ".i2-staging").touch()
    assert names(tree, b"") == {b"dir"}


def test_a_symlink_is_data(tree: SourceTree, tmp_path: Path) -> None:
    (tmp_path / "source" / "trap").symlink_to(tmp_path / "outside")
    (tmp_path / "source" / "near").symlink_to("dir")
    for path in (b"trap", b"trap/sub", b"near", b"near/sub"):
        with pytest.raises(OSError) as refused:
            tree.open_dir(path)
        assert refused.value.errno in GONE
        assert tree.lookup(path + b"/file") is None
    trap = tree.lookup(b"trap")
    assert trap is not None
    assert stat.S_ISLNK(trap.mode)
    assert trap.target == os.fsencode(tmp_path / "outside")


@pytest.mark.parametrize("path", [b"missing", b"dir/missing/deeper", b"dir/file", b"dir/file/deeper"])
def test_what_is_no_directory_is_gone(tree: SourceTree, path: bytes) -> None:
    with pytest.raises(OSError) as refused:
        tree.open_dir(path)
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


def test_a_directory_that_is_swapped_for_a_symlink_leads_nowhere(tree: SourceTree, tmp_path: Path) -> None:
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


def test_a_root_of_one_file_shows_that_alone(tree: SourceTree) -> None:
    alone = SourceTree(tree.path + b"/dir", only=b"file")
    try:
        assert names(alone, b"") == {b"file"}
        with alone.directory(b"") as fd:
            assert {entry.name for entry in alone.entries(fd, at_root=False)} == {b"file", b"sub"}
    finally:
        alone.close()


def test_a_root_that_was_replaced_is_not_present(tree: SourceTree, tmp_path: Path) -> None:
    assert tree.is_present()
    assert tree.lookup(b"") is not None
    (tmp_path / "source").rename(tmp_path / "moved")
    assert not tree.is_present()
    (tmp_path / "source").mkdir()
    assert not tree.is_present()
    assert tree.lookup(b"") is None
    assert names(tree, b"") == {b"dir"}


def test_paths_longer_than_one_call_takes(tree: SourceTree) -> None:
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


def test_attributes(tree: SourceTree, tmp_path: Path) -> None:
    path = tmp_path / "source" / "dir" / "file"
    os.setxattr(path, "user.b", b"\0\xff")
    os.setxattr(path, "user.a", b"")
    pairs = ((b"user.a", b""), (b"user.b", b"\0\xff"))
    with tree.directory(b"dir") as fd:
        assert xattrs_at(fd, b"file") == pairs
        assert xattrs_at(fd, b"missing") == ()
        entry = tree.entry(fd, b"file")
    assert entry is not None
    assert entry.xattrs == xattr_digest(pairs)
    with path.open("rb") as file:
        assert xattrs_of_fd(file.fileno()) == pairs


def test_an_error_that_is_no_absence_comes_out(tree: SourceTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    with tree.directory(b"dir") as fd:
        monkeypatch.setattr(os, "stat", refuse)
        with pytest.raises(OSError, match="Input/output"):
            tree.entry(fd, b"file")
