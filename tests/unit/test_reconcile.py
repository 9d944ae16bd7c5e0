"""From marks to records: the tree was A, is B, and these changes were reported, perhaps late, merged or wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from i2core.posix.tree import LocalTree
from i2core.rule.live.dirty import Mark
from i2core.wire.message_size import PIECE_BYTES

from .reconciling import attributes, created, lost, modified, place, reconciling, removed, renamed

FAR_S = 1e9


async def test_names_that_were_exchanged(tmp_path: Path) -> None:
    """Three renames, reported when all are over: each name has another object than when its rename happened."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("first")
        (tree.top / "b").write_text("second")
        await tree.sent()
        for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
            (tree.top / old).rename(tree.top / new)
        records = await tree.job(renamed("a", "t"), renamed("b", "a"), renamed("t", "b"))
        renames = [line for line in records if line.startswith("RENAME")]
        assert renames == ["RENAME a t", "RENAME b a", "RENAME t b"]
        assert tree.differences() == []


async def test_names_that_were_exchanged_without_a_report(tmp_path: Path) -> None:
    """By inode number each is found under the other's name. The one that moves first may replace the other, which is
    then sent again; whatever is sent, both names must have their content."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("first")
        (tree.top / "b").write_text("second")
        await tree.sent()
        for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
            (tree.top / old).rename(tree.top / new)
        await tree.job(lost())
        assert tree.differences() == []


async def test_a_chain_of_renames(tmp_path: Path) -> None:
    """Log rotation: each rename frees the name that the next one takes."""
    async with reconciling(tmp_path) as tree:
        for name in ("log", "log.1", "log.2"):
            (tree.top / name).write_text(name)
        await tree.sent()
        (tree.top / "log.1").rename(tree.top / "log.2")
        (tree.top / "log").rename(tree.top / "log.1")
        (tree.top / "log").write_text("new")
        records = await tree.job(renamed("log.1", "log.2"), renamed("log", "log.1"), created("log"))
        assert records[:2] == ["RENAME log.1 log.2", "RENAME log log.1"]
        assert "CREATE log new" in records
        assert tree.differences() == []


async def test_a_chain_whose_last_report_comes_first(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "log").write_text("old")
        (tree.top / "log.1").write_text("older")
        await tree.sent()
        (tree.top / "log.1").rename(tree.top / "log.2")
        (tree.top / "log").rename(tree.top / "log.1")
        await tree.job(renamed("log", "log.1"), renamed("log.1", "log.2"))
        assert tree.differences() == []


async def test_a_file_that_moved_twice_and_is_reported_once(tmp_path: Path) -> None:
    """The rename leads to a name that is gone by now: the file has moved on, and is found at its last name."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        await tree.sent()
        (tree.top / "a").rename(tree.top / "c")
        records = await tree.job(renamed("a", "b"), created("c"))
        assert records == ["RENAME a b", "RENAME b c", "CREATE c content"], (
            "the second rename is not certain: see below"
        )
        assert tree.differences() == []


async def test_a_removal_that_is_reported_before_the_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`echo >> e; mv e b; mv b e; rm e`: fanotify merges the removal into the event of the write. When the renames were
    repeated, no report is left about the name to which they lead."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "e").write_text("content")
        await tree.sent()
        (tree.top / "e").unlink()
        records = await tree.job(removed("e"), modified("e"), renamed("e", "b"), renamed("b", "e"))
        assert records == ["RENAME e b", "RENAME b e"]
        assert tree.reconciler.in_transit.oldest_ns is not None, "the replica is not as the source"
        assert await tree.job() == [], "it may still be reported where the file is"
        monkeypatch.setattr("i2core.rule.live.in_transit.WAIT_NS", 0)
        assert await tree.job() == ["REMOVE e"]
        assert tree.reconciler.in_transit.is_empty
        assert tree.differences() == []


async def test_a_rename_whose_new_name_was_checked_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory with the new name was walked, and the object was gone from there already."""
    monkeypatch.setattr("i2core.rule.live.in_transit.WAIT_NS", 0)
    async with reconciling(tmp_path) as tree:
        (tree.top / "b").mkdir()
        (tree.top / "b" / "file").write_text("content")
        await tree.sent()
        (tree.top / "new").mkdir()
        (tree.top / "b").rename(tmp_path / "gone")
        assert await tree.job(created("new", is_dir=True)) == ["MKDIR new"]
        await tree.job(renamed("b", "new/e", is_dir=True))
        assert tree.differences() == []


async def test_a_directory_that_moved_on_is_not_removed(tmp_path: Path) -> None:
    """Its second rename is reported a moment later."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").mkdir()
        (tree.top / "a" / "file").write_text("content")
        await tree.sent()
        (tree.top / "a").rename(tree.top / "c")
        assert await tree.job(renamed("a", "b", is_dir=True)) == ["RENAME a b"]
        assert await tree.job(renamed("b", "c", is_dir=True)) == ["RENAME b c"]
        assert tree.reconciler.in_transit.is_empty
        assert tree.differences() == []


async def test_a_name_that_merely_vanished_is_kept(tmp_path: Path) -> None:
    """It may be on its way to another name. Only a reported removal is carried out. Where the object is found, it is
    renamed to, and its content is checked: the inode number may be another file's by now, and a small file is sent as
    it is read."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        await tree.sent()
        (tree.top / "a").rename(tree.top / "b")
        assert await tree.job(modified("a")) == []
        assert await tree.job(created("b")) == ["RENAME a b", "CREATE b content"]
        assert tree.differences() == []


async def test_a_reported_removal_is_carried_out(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        await tree.sent()
        (tree.top / "a").unlink()
        assert await tree.job(removed("a")) == ["REMOVE a"]
        assert tree.differences() == []


async def test_a_name_that_was_removed_and_created_again(tmp_path: Path) -> None:
    """The new file may have the inode, size and time of the old one: its content is read in any case."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("old")
        times = (tree.top / "a").stat()
        await tree.sent()
        (tree.top / "a").unlink()
        (tree.top / "a").write_text("new")
        os.utime(tree.top / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert await tree.job(removed("a"), created("a")) == ["CREATE a new"]
        assert tree.differences() == []


@pytest.mark.parametrize("now_at", ["", "b"])
async def test_a_rename_that_was_put_off_until_another_object_had_the_name(tmp_path: Path, now_at: str) -> None:
    """The object that was sent for the old name meanwhile is still there: it has not moved."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").mkdir()
        await tree.sent()
        (tree.top / "a").rename(tmp_path / "gone")
        (tree.top / "a").write_text("another")
        await tree.job(removed("a", is_dir=True), created("a"))
        if now_at:
            os.link(tree.top / "a", tree.top / now_at)
        tree.dirty.put_back([Mark(place("b"), 0, moved_from=place("a"))])
        await tree.job()
        assert tree.differences() == []


async def test_a_hard_link_is_sent_as_a_link(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        await tree.sent()
        os.link(tree.top / "a", tree.top / "b")
        assert await tree.job(created("b")) == ["LINK b a"]
        assert tree.differences() == []


async def test_a_file_changes_under_a_name_that_was_not_reported(tmp_path: Path) -> None:
    """It was opened as `log`, which is gone: writes go to `log.1`, but the report has `log`."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "log").write_text("old")
        await tree.sent()
        os.link(tree.top / "log", tree.top / "log.1")
        await tree.job(created("log.1"))
        (tree.top / "log").unlink()
        await tree.job(removed("log"))
        (tree.top / "log.1").write_text("more")
        inode = (tree.top / "log.1").stat().st_ino
        await tree.job(modified("log", inode))
        assert tree.differences() == []


async def test_names_of_one_file_that_become_two_files(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        os.link(tree.top / "a", tree.top / "b")
        await tree.sent()
        (tree.top / "b").unlink()
        (tree.top / "b").write_text("its own")
        records = await tree.job(created("b"))
        assert "CREATE b its own" in records
        assert "LINK b a" not in records
        assert tree.differences() == []


async def test_a_directory_that_moved_while_a_file_in_it_was_marked(tmp_path: Path) -> None:
    """The write was reported under the old path, which leads nowhere by then. The directory is compared after its
    move."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "d").mkdir()
        (tree.top / "d" / "f").write_text("old")
        await tree.sent()
        before = tree.replica_inode("d/f")
        (tree.top / "d" / "f").write_text("newer")
        (tree.top / "d").rename(tree.top / "e")
        records = await tree.job(modified("d/f"), renamed("d", "e", is_dir=True))
        assert records[0] == "RENAME d e"
        assert tree.differences() == []
        assert tree.replica_inode("e") != before


async def test_a_directory_that_moved_without_a_report(tmp_path: Path) -> None:
    """It is found by its inode number: nothing in it is sent again."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "d" / "sub").mkdir(parents=True)
        (tree.top / "d" / "sub" / "f").write_text("content")
        await tree.sent()
        (tree.top / "d").rename(tree.top / "e")
        assert await tree.job(lost()) == ["RENAME d e"]
        assert tree.differences() == []


async def test_things_moved_into_a_directory_that_is_new(tmp_path: Path) -> None:
    """Nothing is removed before the new directory was walked: objects that moved there are found and renamed."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "f").write_text("content")
        await tree.sent()
        (tree.top / "d").mkdir()
        (tree.top / "f").rename(tree.top / "d" / "f")
        assert await tree.job(lost()) == ["MKDIR d", "RENAME f d/f", "CREATE d/f content"]
        assert tree.differences() == []


async def test_a_file_in_a_directory_that_the_replica_lacks(tmp_path: Path) -> None:
    """The file's report comes first: its directories are created before it."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "d" / "e").mkdir(parents=True)
        (tree.top / "d" / "e" / "f").write_text("content")
        assert await tree.job(modified("d/e/f")) == ["MKDIR d", "MKDIR d/e", "CREATE d/e/f content"]
        assert tree.differences() == []


async def test_a_name_that_became_a_directory(tmp_path: Path) -> None:
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("file")
        await tree.sent()
        (tree.top / "a").unlink()
        (tree.top / "a").mkdir()
        (tree.top / "a" / "inside").write_text("content")
        await tree.job(removed("a"), created("a", is_dir=True))
        assert tree.differences() == []


async def test_a_directory_that_was_moved_into_its_own_child(tmp_path: Path) -> None:
    """When checked late, `d` and `d/sub` have exchanged places: neither is a rename of the other."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "d" / "sub").mkdir(parents=True)
        (tree.top / "d" / "f").write_text("f")
        (tree.top / "d" / "sub" / "g").write_text("g")
        await tree.sent()
        (tree.top / "d" / "sub").rename(tree.top / "t")
        (tree.top / "d").rename(tree.top / "t" / "sub")
        (tree.top / "t").rename(tree.top / "d")
        await tree.job(lost())
        assert tree.differences() == []


async def test_what_cannot_be_read_now_is_put_off_with_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark says that the name was removed: without the mark, the name would merely have vanished."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        await tree.sent()
        (tree.top / "a").unlink()
        with monkeypatch.context() as patch:
            patch.setattr(LocalTree, "directory", refuse)
            assert await tree.job(removed("a")) == []
        tree.source.passing.take_up()
        monkeypatch.setattr(trio, "current_time", lambda: FAR_S)
        marks = [each.mark for each in tree.source.passing.due()]
        assert [mark.removed for mark in marks if isinstance(mark, Mark)] == [True]
        tree.dirty.put_back(mark for mark in marks if isinstance(mark, Mark))
        assert await tree.job() == ["REMOVE a"]
        assert tree.differences() == []


async def test_only_attributes_were_reported(tmp_path: Path) -> None:
    """A new mode is sent, and the report of new content is lost. The check of the mode must not count as a check of the
    content: a compare after the loss reads it, although size and time are unchanged."""
    async with reconciling(tmp_path) as tree:
        file = tree.top / "a"
        file.write_text("old")
        times = file.stat()
        await tree.sent()
        file.write_text("new")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        file.chmod(0o600)
        await tree.job(attributes("a"))
        assert tree.differences() == ["/a: content"]
        assert await tree.job(lost()) == ["CREATE a new"]
        assert tree.differences() == []


def change_unseen(file: Path, content: str) -> None:
    """New content of the same size, with the time set back."""
    times = file.stat()
    file.write_text(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("link", [False, True], ids=["renamed", "linked and unlinked"])
async def test_a_file_leaves_a_directory_before_a_walk_reaches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: bool
) -> None:
    """After a loss. In its new directory the walk has been already, and in the old one it will not find the file."""
    async with reconciling(tmp_path) as tree:
        for name in ("a", "c"):
            (tree.top / name).mkdir()
            (tree.top / name / "file").write_text("old")
            (tree.top / name / "big").write_text("x" * PIECE_BYTES)
        await tree.sent()
        for name in ("a", "c"):
            change_unseen(tree.top / name / "file", "new")
            (tree.top / name / "big").write_text("y" * PIECE_BYTES)
        lines = await tree.once(lost())
        (walked,) = {line.split()[1].removesuffix("/big") for line in lines if "/big" in line}  # enough for one job
        ahead = {"a": "c", "c": "a"}[walked]
        old, new = tree.top / ahead / "file", tree.top / walked / "moved"
        if link:
            os.link(old, new)
            with monkeypatch.context() as patch:
                patch.setattr("i2core.rule.live.walks.WALK_S", 0)
                await tree.once(created(f"{walked}/moved"))
            old.unlink()
            await tree.job(removed(f"{ahead}/file"))
        else:
            old.rename(new)
            await tree.job(renamed(f"{ahead}/file", f"{walked}/moved"))
        assert tree.differences() == []


async def test_a_large_file_moves_before_it_is_opened(tmp_path: Path) -> None:
    """A walk has found that its content may have changed; its size and time do not show it under the new name."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("old" * PIECE_BYTES)
        await tree.sent()
        change_unseen(tree.top / "a", "new" * PIECE_BYTES)
        await tree.job(lost())
        assert tree.large == ["a"]
        (tree.top / "a").rename(tree.top / "b")
        await tree.job(renamed("a", "b"))
        assert tree.large == ["a", "b"]


async def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its earlier notes are not trusted any more, and nothing else is affected."""

    def denied(*_: object) -> object:
        raise OSError(errno.EACCES, "permission denied")

    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        with monkeypatch.context() as patch:
            patch.setattr("i2core.posix.tree.open_file", denied)
            await tree.job(created("a"), created("d", is_dir=True))
        assert tree.source.status.skipped_count == 1
        assert await tree.job(lost()) == ["CREATE a content"]
        assert tree.differences() == []


async def test_a_root_that_is_gone_is_reported_once(tmp_path: Path) -> None:
    """It is one removal of everything in it. The backup node holds it until somebody releases it."""
    async with reconciling(tmp_path) as tree:
        (tree.top / "a").write_text("content")
        await tree.sent()
        tree.top.rename(tmp_path / "elsewhere")
        assert await tree.job(lost()) == ["REMOVE ."]
        assert await tree.job(lost()) == []
        (tmp_path / "elsewhere").rename(tree.top)
