"""What is sent first after the replica's disk was full: only records that make room."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from .reconciling import Reconciling, lost, reconciling

BLOCK = "b" * 4096


async def room(tree: Reconciling) -> list[str]:
    """The records that make room. Existing marks wait for them."""
    tree.reconciler.make_room(time.monotonic_ns())
    return await tree.job()


async def test_only_removals_and_truncations_are_sent_first(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "z").mkdir()
        for name in ("cut", "grows", "z/gone"):
            (tree.top / name).write_text(3 * BLOCK)
        await tree.sent()
        os.truncate(tree.top / "cut", 5000)
        (tree.top / "grows").write_text(4 * BLOCK)
        (tree.top / "new").write_text("new")
        (tree.top / "z" / "gone").unlink()
        assert sorted(await room(tree)) == ["REMOVE z/gone", "TRUNCATE cut"]
        await tree.job(lost())
        assert tree.differences() == []


async def test_marks_wait(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "gone").write_text("old")
        await tree.sent()
        (tree.top / "new").write_text("new")  # before the removal: it shall not get the same inode
        (tree.top / "gone").unlink()
        tree.reconciler.make_room(time.monotonic_ns())
        assert await tree.job(lost()) == ["REMOVE gone", "CREATE new new"]


async def test_a_file_that_grows_back_is_sent_again(tmp_path: Path) -> None:
    """With the same content, size and time: the truncated part is missing on the replica, although it was sent once."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "file").write_text(5 * BLOCK)
        await tree.sent()
        before = (tree.top / "file").stat()
        os.truncate(tree.top / "file", 5000)
        assert await room(tree) == ["TRUNCATE file"]
        (tree.top / "file").write_text(5 * BLOCK)
        os.utime(tree.top / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
        await tree.job(lost())
        assert tree.differences() == []


async def test_unverified_files_are_not_truncated_without_a_question(tmp_path: Path) -> None:
    """The replica's file may be shorter: it would get a tail of zeros."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "file").write_text(3 * BLOCK)
        await tree.sent()
        os.truncate(tree.top / "file", 5000)
        with tree.catalog.unit():
            row = tree.catalog.objects.get(lost("file").place)
            assert row is not None
            tree.catalog.doubts.distrust(row)
        assert await room(tree) == []


async def test_moved_objects_stay(tmp_path: Path) -> None:
    """It is sent as a rename afterwards, and stays the same object on the replica."""
    async with reconciling(tmp_path) as tree:
        for name in ("d", "d/sub", "e"):
            (tree.top / name).mkdir()
        for name in ("d/kept", "d/sub/gone", "d/gone", "e/file", "e/gone", "log"):
            (tree.top / name).write_text(name)
        await tree.sent()
        (tree.top / "archive").mkdir()
        (tree.top / "d" / "kept").rename(tree.top / "kept")
        (tree.top / "log").rename(tree.top / "archive" / "log")
        for name in ("d/sub/gone", "d/gone", "e/gone"):
            (tree.top / name).unlink()
        (tree.top / "d" / "sub").rmdir()
        (tree.top / "d").rmdir()
        (tree.top / "e").rename(tree.top / "f")
        assert sorted(await room(tree)) == ["REMOVE d/gone", "REMOVE d/sub", "REMOVE e/gone"]
        await tree.job(lost())
        assert tree.differences() == []


async def test_a_reused_inode_has_the_size_of_the_new_file(tmp_path: Path) -> None:
    """It looks as if the old file had moved, and is treated so: its excess is truncated now."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "old").write_text(3 * BLOCK)
        await tree.sent()
        (tree.top / "old").rename(tree.top / "new")
        (tree.top / "new").write_text("new")
        assert await room(tree) == ["TRUNCATE old"]
        await tree.job(lost())
        assert tree.differences() == []


async def test_a_file_that_was_replaced_is_cut_unless_it_has_other_names(tmp_path: Path) -> None:
    """Truncated under one name, it would be truncated under all."""
    async with reconciling(tmp_path) as tree:
        for name in ("alone", "linked", "moved"):
            (tree.top / name).write_text(3 * BLOCK)
        (tree.top / "link").hardlink_to(tree.top / "linked")
        await tree.sent()
        (tree.top / "moved").rename(tree.top / "elsewhere")
        new = [tree.top / f"new {name}" for name in ("alone", "linked", "moved")]
        for path in new:  # all of them before the first is replaced: none shall get its inode
            path.write_text("new")
        for path in new:
            path.replace(tree.top / path.name.removeprefix("new "))
        assert await room(tree) == ["TRUNCATE alone"]
        await tree.job(lost())
        assert tree.differences() == []


async def test_a_file_that_became_a_directory_is_emptied(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "name").write_text(BLOCK)
        await tree.sent()
        (tree.top / "name").unlink()
        (tree.top / "name").mkdir()
        assert await room(tree) == ["TRUNCATE name"]
        await tree.job(lost())
        assert tree.differences() == []


@pytest.mark.parametrize("again", [False, True], ids=["a file", "a directory"])
async def test_a_directory_that_was_replaced_loses_what_has_not_moved(tmp_path: Path, again: bool) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "name/deep").mkdir(parents=True)
        for name in ("gone", "moved", "deep/gone", "deep/moved"):
            (tree.top / "name" / name).write_text(name)
        await tree.sent()
        (tree.top / "name/moved").rename(tree.top / "moved")
        (tree.top / "name/deep/moved").rename(tree.top / "moved too")
        (tree.top / "name").rename(tmp_path / "elsewhere")  # removed; the inode number is not free yet
        if again:
            (tree.top / "name").mkdir()
            (tree.top / "name/gone").write_text("new")
        else:
            (tree.top / "name").touch()
        kept = [] if again else ["REMOVE name/gone"]
        assert sorted(await room(tree)) == ["REMOVE name/deep/gone", *kept]
        await tree.job(lost())
        assert tree.differences() == []
        await tree.job(lost())
        assert tree.differences() == []
