"""A mirror that is interrupted anywhere is run again, and ends with both sides equal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import BLOCK_BYTES, Change, LinkError, Op, Place
from i2core.config.model import OrphanAction, Orphans, Pair, Rule
from i2core.rule.source import transfer as content
from i2core.rule.survey import lister
from i2core.rule.work import runner as work
from i2core.testing.trees import compare_trees
from i2core.wire import message_size
from i2core.wire.window import WINDOW_BYTES

from .pair import Nodes, open_nodes, until

OWNS = os.geteuid() == 0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reconnects at once, and sends in small pieces."""
    monkeypatch.setattr(work, "BACKOFF_S", (0.001, 0.002))
    monkeypatch.setattr(lister, "CHUNK_ENTRIES", 4)
    monkeypatch.setattr(lister, "FRAME_ENTRIES", 6)
    monkeypatch.setattr(lister, "FIRST_FRAME_ENTRIES", 3)
    monkeypatch.setattr(message_size, "BATCH_RECORDS", 5)


def fill(top: Path) -> None:
    """A tree that takes many frames."""
    for number in range(4):
        above = top / f"dir{number}" / "sub"
        above.mkdir(parents=True)
        for name in ("a", "b"):
            (above / name).write_bytes(os.urandom(100))
        os.link(above / "a", top / f"dir{number}" / "twin")
        (top / f"link{number}").symlink_to("dir0")
    (top / "blocks").write_bytes(os.urandom(3 * BLOCK_BYTES))
    (top / "large").write_bytes(os.urandom(5 * 1024 * 1024))


def rule_to(nodes: Nodes, name: str) -> Rule:
    """A rule with a replica of its own."""
    target = nodes.target.parent / name
    return nodes.rule(name=name, pairs=(Pair(source=os.fsencode(nodes.source), target=os.fsencode(target)),))


@pytest.mark.parametrize("loses", [False, True], ids=["closed", "lost"])
async def test_cut_at_any_message(tmp_path: Path, loses: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        nodes.wire.loses = loses
        await nodes.run(rule_to(nodes, "uncut"), keep=False)
        total = nodes.wire.sends
        assert total > 20
        for cut in range(total):
            rule = rule_to(nodes, f"cut{cut}")
            nodes.wire.sends, nodes.wire.cut_at = 0, cut
            await nodes.run(rule, keep=bool(cut % 2))
            assert nodes.wire.was_cut()
            assert compare_trees(nodes.source, rule.pairs[0].target, owners=OWNS) == [], f"cut at {cut}"
            assert (await nodes.run(rule, keep=bool(cut % 2))).sent_files == 0


async def test_repeated_cuts(tmp_path: Path) -> None:
    """As long as records are applied between two cuts, the mirror does not give up."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        nodes.wire.cut_every = 25
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_a_link_that_always_breaks_ends_a_single_run(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        nodes.wire.cut_every = 3
        with pytest.raises(LinkError):
            await nodes.run()


async def test_a_large_file_resumes_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "RESUME_BYTES", 1 << 20)
    async with open_nodes(tmp_path) as nodes:
        size = 48 * 1024 * 1024
        (nodes.source / "large").write_bytes(os.urandom(size))
        await nodes.run(rule_to(nodes, "uncut"), keep=False)
        nodes.wire.sends, nodes.wire.cut_at = 0, nodes.wire.sends - 8
        status = await nodes.run()
        assert nodes.wire.was_cut()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        # What was on its way is sent again, and no more.
        assert size <= status.sent_bytes <= size + WINDOW_BYTES + 2 * content.SEND_BYTES


async def test_a_large_file_that_was_written_while_it_was_read_does_not_count_as_equal(tmp_path: Path) -> None:
    """The write is not reported, as when the link breaks after it: the next mirror finds it by size and time."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "large").write_bytes(os.urandom(48 * 1024 * 1024))
        written: list[int] = []

        def write(send: int) -> None:
            staged = nodes.target.exists() and any(
                name.stat().st_size for name in nodes.target.glob(".i2-staging-*/tree-*/large")
            )
            if staged and not written:
                with (nodes.source / "large").open("r+b") as file:
                    written.append(file.write(b"behind the reader"))

        nodes.wire.before_send = write
        await nodes.run(keep=False)
        assert written
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) != []
        await nodes.run(keep=False)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_changes_during_the_mirror_arrive(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        top = nodes.source

        def work_on(send: int) -> None:
            if send != 12:
                return
            (top / "new").write_text("came meanwhile")
            (top / "dir0" / "sub" / "a").write_text("written meanwhile")
            (top / "dir1" / "sub" / "b").unlink()
            (top / "dir2").rename(top / "renamed")
            with (top / "large").open("r+b") as file:
                file.write(b"patched meanwhile")
            nodes.capture.tell(
                Change(Op.CREATE, Place(0, b"new")),
                Change(Op.MODIFY, Place(0, b"dir0/sub/a")),
                Change(Op.REMOVE, Place(0, b"dir1/sub/b")),
                Change(Op.RENAME, Place(0, b"dir2"), True, Place(0, b"renamed")),
                Change(Op.MODIFY, Place(0, b"large")),
            )

        nodes.wire.before_send = work_on
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_an_object_of_others_under_a_short_lived_name_is_removed(tmp_path: Path) -> None:
    """The mirror finds a name that only the replica has; the source creates it, and moves it before it is checked."""
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        top, at = nodes.source, 0

        def work_on(send: int) -> None:
            if send == at:
                (top / "passing").write_text("here")
                (top / "dir1").rename(top / "moving")
                nodes.capture.tell(Change(Op.CREATE, Place(0, b"passing")))
                nodes.capture.tell(Change(Op.RENAME, Place(0, b"dir1"), True, Place(0, b"moving")))
            elif send == at + 2:
                (top / "passing").rename(top / "there")
                (top / "moving").rename(top / "dir1")
                nodes.capture.tell(Change(Op.RENAME, Place(0, b"passing"), False, Place(0, b"there")))
                nodes.capture.tell(Change(Op.RENAME, Place(0, b"moving"), True, Place(0, b"dir1")))

        nodes.wire.before_send = work_on
        total = 30
        while at < total:
            target = nodes.target.parent / f"target{at}"
            (target / "dir1").mkdir(parents=True)
            (target / "passing").write_text("of others")
            (target / "dir1" / "stranger").write_text("of others")
            pairs = (Pair(source=os.fsencode(top), target=os.fsencode(target)),)
            rule = nodes.rule(name=f"rule{at}", pairs=pairs, orphans=Orphans(action=OrphanAction.DELETE))
            nodes.wire.sends = 0
            await nodes.run(rule)
            assert compare_trees(top, target, owners=OWNS) == [], f"made at {at}"
            total = min(total, nodes.wire.sends)
            (top / "there").unlink(missing_ok=True)
            (top / "passing").unlink(missing_ok=True)
            if (top / "moving").exists():
                (top / "moving").rename(top / "dir1")
            at += 1


async def test_an_interrupted_live_delete_is_repaired(tmp_path: Path) -> None:
    """Records that were sent and not durable when the link broke are compared again, including removals."""
    async with open_nodes(tmp_path) as nodes:
        for name in ("gone", "kept"):
            (nodes.source / name).write_text(name)
        async with nodes.running() as status:
            (nodes.source / "gone").unlink()
            nodes.wire.cut_at = nodes.wire.sends
            nodes.capture.tell(Change(Op.REMOVE, Place(0, b"gone")))
            await until(lambda: nodes.wire.cut_at is None)
            await until(lambda: status.code is None and not (nodes.target / "gone").exists())
            await until(lambda: compare_trees(nodes.source, nodes.target, owners=OWNS) == [])
