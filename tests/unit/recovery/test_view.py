"""Parts of trees as one tree: it keeps the contract of trees, and shells only lead to parts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from i2_sink_fs.sink import open_sink

from i2core.api import Batch, Place, Record, SinkContext, UsageError
from i2core.api.tree import Tree
from i2core.posix.tree import LocalTree
from i2core.recovery.parts import Part, Root, parts_of
from i2core.recovery.view import View
from i2core.testing import check_tree
from i2core.testing.tree import OpenTree


class Owning(View):
    """A view that closes its trees."""

    def close(self) -> None:
        for part in self._parts.values():
            part.root.tree.close()


def of_a_root(top: Path, only: bytes | None, *, flags: bool) -> View:
    """A view of a whole root, or of a single file in it."""
    tree = LocalTree(os.fsencode(top), only, flags=flags)
    return Owning(b"/to", parts_of([Root(tree=tree, path=tree.path)]))


def of_a_directory(top: Path, only: bytes | None, *, flags: bool) -> View:
    """A view of a directory of a root, which becomes its top."""
    tree = LocalTree(os.fsencode(top.parent), flags=flags)
    path = os.fsencode(top.name)
    if only is None:
        return Owning(b"/to", parts_of([Root(tree=tree, path=tree.path)], [path], {path: b""}))
    path += b"/" + only
    return Owning(b"/to", parts_of([Root(tree=tree, path=tree.path)], [path], {path: only}))


@pytest.mark.parametrize("view", [of_a_root, of_a_directory])
async def test_a_view_keeps_the_contract_of_trees(tmp_path: Path, view: Callable[..., View]) -> None:
    top = tmp_path / "top"

    async def make(records: Sequence[Record]) -> OpenTree:
        root = os.fsencode(top)
        async with open_sink(SinkContext(roots=(root,), allowed=(os.fsencode(tmp_path),))) as sink:
            assert not (await sink.apply(Batch(1, records))).failures

        def open_tree(only: bytes | None = None, *, flags: bool = False) -> Tree:
            return view(top, only, flags=flags)

        return open_tree

    await check_tree(make)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A small tree."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"content")
    (tmp_path / "a" / "other").touch()
    (tmp_path / "a").chmod(0o711)
    (tmp_path / "c").touch()
    os.setxattr(tmp_path / "a", "user.a", b"1")
    return tmp_path


def names(tree: Tree, path: bytes) -> list[bytes]:
    """The names in a directory of a tree."""
    with tree.directory(path) as directory:
        return sorted(entry.name for entry in directory.entries())


def view_of(top: Path, *chosen: bytes, **moved: bytes) -> View:
    """A view of some paths."""
    tree = LocalTree(os.fsencode(top))
    parts = parts_of([Root(tree=tree, path=tree.path)], chosen, {os.fsencode(key): at for key, at in moved.items()})
    return Owning(b"/to", parts)


def test_a_shell_has_nothing_but_what_leads_to_parts(top: Path) -> None:
    view = view_of(top, b"a/b")
    assert names(view, b"") == [b"a"]
    assert names(view, b"a") == [b"b"]
    assert names(view, b"a/b") == [b"file"]
    assert [view.is_shell(path) for path in (b"", b"a", b"a/b", b"a/b/file")] == [True, True, False, False]
    assert view.lookup(b"a/other") is None
    assert view.lookup(b"c") is None
    with pytest.raises(FileNotFoundError):
        view.directory(b"c")
    view.close()


def test_a_shell_is_made_as_the_directory_was(top: Path) -> None:
    view = view_of(top, b"a/b/file")
    entry, model = view.lookup(b"a"), (top / "a").stat()
    assert entry is not None
    assert (entry.mode, entry.uid, entry.mtime_ns) == (model.st_mode, model.st_uid, model.st_mtime_ns)
    with view.directory(b"") as directory:
        assert directory.xattrs(b"a") == ((b"user.a", b"1"),)
        assert entry.xattrs
    view.close()


def test_a_part_that_comes_to_another_place(top: Path) -> None:
    view = view_of(top, b"c", c=b"x/y")
    entry = view.lookup(b"x")
    assert entry is not None
    assert (stat.S_IMODE(entry.mode), entry.xattrs) == (0o755, 0)
    with view.directory(b"x") as directory, directory.open(b"y") as file:
        assert file.entry().name == file.as_opened().name == b"y"
        assert directory.xattrs(b"y") == ()
        with pytest.raises(FileNotFoundError) as caught:
            directory.open(b"z")
    assert caught.value.errno == errno.ENOENT
    view.close()


def test_many_parts_have_models_of_their_own(top: Path) -> None:
    view = view_of(top, b"a/b/file", b"a/other", b"c", c=b"a/new")
    assert names(view, b"a") == [b"b", b"new", b"other"]
    found = {path: view.lookup(path) for path in (b"a", b"a/b")}
    modes = {path: None if entry is None else stat.S_IMODE(entry.mode) for path, entry in found.items()}
    assert modes == {b"a": 0o711, b"a/b": stat.S_IMODE((top / "a" / "b").stat().st_mode)}
    view.close()


def test_the_filter_of_a_rule_knows_its_own_paths(top: Path) -> None:
    tree = LocalTree(os.fsencode(top))
    root = Root(tree=tree, path=tree.path, wants=lambda path, is_dir: path != b"a/other")
    chosen = View(b"/to", [Part(root=root, path=b"a", at=b"x/a")]).filter()
    assert chosen is not None
    wanted = {path: chosen.wants(Place(0, path), is_dir=False) for path in (b"", b"x", b"x/a", b"x/a/b", b"y", b"x/z")}
    assert wanted == {b"": True, b"x": True, b"x/a": True, b"x/a/b": True, b"y": False, b"x/z": False}
    assert not chosen.wants(Place(0, b"x/a/other"), is_dir=False)
    tree.close()


def test_a_view_of_all_needs_no_filter(top: Path) -> None:
    view = view_of(top)
    assert view.filter() is None
    view.close()


# ------------------------------------------------------------------------------------------ parts


def roots_of(*paths: Path) -> list[Root]:
    """Roots at these directories."""
    return [Root(tree=LocalTree(os.fsencode(path)), path=os.fsencode(path)) for path in paths]


def test_a_chosen_path_is_absolute_or_beneath_the_only_root(top: Path) -> None:
    roots = roots_of(top)
    for path in (b"a/b", b"./a/b/", os.fsencode(top / "a" / "b")):
        (part,) = parts_of(roots, [path])
        assert (part.path, part.at) == (b"a/b", b"a/b")
    (whole,) = parts_of(roots, [os.fsencode(top)])
    assert (whole.path, whole.at) == (b"", b"")
    two = roots_of(top / "a", top / "a" / "b")
    with pytest.raises(UsageError):
        parts_of(two, [b"b"])
    assert [part.at for part in parts_of(two, [os.fsencode(top / "a" / "other")])] == [
        os.fsencode(top)[1:] + b"/a/other"
    ]


def test_a_root_of_one_file(top: Path) -> None:
    tree = LocalTree(os.fsencode(top), b"c")
    (part,) = parts_of([Root(tree=tree, path=tree.path)])
    assert (part.path, part.at) == (b"c", b"c")
    assert names(View(b"/to", [part]), b"") == [b"c"]
    with pytest.raises(UsageError):
        parts_of([Root(tree=tree, path=tree.path)], [b"a"])
    tree.close()
