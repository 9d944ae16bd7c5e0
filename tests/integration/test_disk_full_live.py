"""The replica's disk fills up while a rule replicates live. The administrator follows the documentation: deletes files
on the source and starts the rule, without any change on the backup node. Small real file systems."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from i2_sink_fs.files import FileWriter

from i2core.api import Change, Code, Lost, Op, Place, Record, StopRule
from i2core.config.model import OrphanAction, Orphans, Rule
from i2core.rule.life.status import RuleStatus
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import Nodes, open_nodes, until
from .test_disk_full import append, small_disk
from .unreadable import unreadable

MIB = 1 << 20


def write(path: Path, size: int) -> None:
    """Writes a file that cannot be compressed."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(os.urandom(size))


async def fill_live(nodes: Nodes, change: Callable[[], None], code: Code = Code.REPLICA_FULL) -> None:
    """`change` adds more to the source than fits on the replica's disk: the rule stops."""
    status = RuleStatus(name="data1")
    with pytest.raises(StopRule) as stopped:
        async with nodes.running() as status:
            change()
            if not nodes.capture.unread():
                nodes.capture.tell(Lost(Place(0, b""), "many changes"))
            await until(lambda: False)
    assert stopped.value.code is code
    assert status.durable_seq <= status.seq


async def start_again(nodes: Nodes, rule: Rule | None = None) -> None:
    """`i2 rule start`: the rule resumes with its catalog, and the replica becomes equal."""
    async with nodes.running(rule) as status:
        await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        await until(lambda: status.seq == status.durable_seq)
    assert nodes.codes().count(Code.MIRROR_DONE) == 1, "it has mirrored"


@pytest.mark.root
@pytest.mark.parametrize("size", [200_000, 1_700_000], ids=["small", "large"])
@pytest.mark.parametrize("names", [("new", "old"), ("a/new", "z/old"), ("z/new", "a/old")], ids=["beside", "z", "a"])
@pytest.mark.parametrize("spool", [False, True], ids=["memory", "spool"])
async def test_removals_of_the_source_are_sent_first(
    tmp_path: Path, size: int, names: tuple[str, str], spool: bool
) -> None:
    """Wherever a walk over the source reaches it."""
    new, old = names
    count = 4 * MIB // size + 1
    async with open_nodes(tmp_path) as nodes:
        nodes.cache_dir = tmp_path / "cache" if spool else None
        with small_disk(nodes.target.parent):
            for number in range(count):
                write(nodes.source / f"{old}{number}", size)

            def change() -> None:
                for number in range(count):
                    write(nodes.source / f"{new}{number}", size)

            await fill_live(nodes, change)
            for number in range(count):
                (nodes.source / f"{old}{number}").unlink()
            await start_again(nodes)


@pytest.mark.root
async def test_inodes_are_given_back_first(tmp_path: Path) -> None:
    """The disk has 512 inodes, and enough space."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            for number in range(300):
                write(nodes.source / f"old{number}", 10)

            def change() -> None:
                for number in range(300):
                    write(nodes.source / f"new{number}", 10)

            await fill_live(nodes, change, Code.REPLICA_NO_INODES)
            for number in range(300):
                (nodes.source / f"old{number}").unlink()
            await start_again(nodes)


@pytest.mark.root
@pytest.mark.parametrize("left", [0, 100_000])
async def test_a_file_that_is_cut_on_the_source_is_cut_first(tmp_path: Path, left: int) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            write(nodes.source / "zlog", 5 * MIB)

            def change() -> None:
                for number in range(5):
                    write(nodes.source / f"new{number}", MIB)

            await fill_live(nodes, change)
            os.truncate(nodes.source / "zlog", left)
            await start_again(nodes)


@pytest.mark.root
@pytest.mark.parametrize("before", [0, MIB])
async def test_the_file_that_has_filled_the_disk_is_cut_first(tmp_path: Path, before: int) -> None:
    """Its length on the replica is unknown, so the replica is asked. Later files are new."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            write(nodes.source / "zlog", before)

            def change() -> None:
                for _ in range(20):
                    append(nodes.source / "zlog", os.urandom(MIB))

            await fill_live(nodes, change)
            os.truncate(nodes.source / "zlog", 2 * MIB)
            for number in range(4):
                write(nodes.source / f"new{number}", MIB)
            await start_again(nodes)


@pytest.mark.root
@pytest.mark.parametrize("moved", [False, True])
async def test_a_file_that_a_smaller_one_replaced_is_cut_first(tmp_path: Path, moved: bool) -> None:
    """By a new file, and by one that the replica has under another name."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            write(nodes.source / "zbig", 5 * MIB)
            write(nodes.source / "small", 10_000)

            def change() -> None:
                for number in range(5):
                    write(nodes.source / f"new{number}", MIB)

            await fill_live(nodes, change)
            if not moved:
                (nodes.source / "small").unlink()
                write(nodes.source / "small", 20_000)
            (nodes.source / "small").replace(nodes.source / "zbig")
            await start_again(nodes)


@pytest.mark.root
async def test_what_has_only_moved_stays(tmp_path: Path) -> None:
    """It is not removed to make room and then sent again: meanwhile the replica would lack it."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            (nodes.source / "new").mkdir()
            write(nodes.source / "a" / "kept", 2 * MIB)
            write(nodes.source / "z" / "kept", 2 * MIB)
            write(nodes.source / "z" / "old", 2 * MIB)

            def change() -> None:
                for number in range(2):
                    write(nodes.source / "new" / f"{number}", MIB)

            await fill_live(nodes, change)
            kept = {(nodes.target / name / "kept").stat().st_ino for name in "az"}
            (nodes.source / "a").rename(nodes.source / "b")
            (nodes.source / "z" / "kept").rename(nodes.source / "kept")
            (nodes.source / "z" / "old").unlink()
            (nodes.source / "z").rmdir()
            await start_again(nodes)
            assert {(nodes.target / name / "kept").stat().st_ino for name in (".", "b")} == kept


async def remove_while_full(nodes: Nodes) -> None:
    """A removal waits after records that do not fit: it is not sent any more, and the catalog has forgotten the name.
    Then more files are created, which fit only after the removal."""
    write(nodes.source / "zold", 4 * MIB)
    write(nodes.source / "zfill", 2_400_000)

    def change() -> None:
        write(nodes.source / "new", 600_000)
        (nodes.source / "zold").unlink()
        nodes.capture.tell(Change(Op.CREATE, Place(0, b"new")), Change(Op.REMOVE, Place(0, b"zold")))

    await fill_live(nodes, change)
    for number in range(5):
        write(nodes.source / f"new{number}", 600_000)


@pytest.mark.root
async def test_removals_from_while_the_disk_was_full_are_sent_first(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            await remove_while_full(nodes)
            assert (nodes.target / "zold").exists()
            await start_again(nodes)


@pytest.mark.root
async def test_no_record_is_made_before_the_link_is_up(tmp_path: Path) -> None:
    """Otherwise it would be sent before unverified names are compared with the replica. A run that ends before leaves
    it to the next one."""
    async with open_nodes(tmp_path) as nodes:
        nodes.cache_dir = tmp_path / "cache"
        with small_disk(nodes.target.parent):
            await remove_while_full(nodes)
            refused: list[int] = []

            def refuse(send: int) -> None:
                refused.append(send)
                raise trio.BrokenResourceError

            nodes.wire.before_send = refuse
            async with nodes.starting():
                await until(lambda: len(refused) > 1)
            async with nodes.starting():
                await until(lambda: len(refused) > 3)
                nodes.wire.before_send = lambda send: None
                await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            assert nodes.codes().count(Code.MIRROR_DONE) == 1


@pytest.mark.root
async def test_no_room_for_one_name_waits_for_a_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota is used up: the rule continues, the old content stays, and removals of the source are carried out
    meanwhile."""
    async with open_nodes(tmp_path) as nodes:
        publish = FileWriter.publish

        def within_quota(writer: FileWriter, record: Record) -> None:
            if (nodes.target / "old").exists():
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            publish(writer, record)

        write(nodes.source / "old", MIB)
        write(nodes.source / "text", 2 * MIB)
        before = (nodes.source / "text").read_bytes()
        async with nodes.running() as status:
            monkeypatch.setattr(FileWriter, "publish", within_quota)
            write(nodes.source / "new", 2 * MIB)
            (nodes.source / "new").replace(nodes.source / "text")
            nodes.capture.tell(Change(Op.RENAME, Place(0, b"new"), to=Place(0, b"text")))
            await until(lambda: status.doubtful == 1 and Code.REPLICATE_FILE in nodes.codes())
            assert (nodes.target / "text").read_bytes() == before
            (nodes.source / "old").unlink()
            nodes.capture.tell(Change(Op.REMOVE, Place(0, b"old")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [] and status.doubtful == 0)


def unread_by_the_mirror(nodes: Nodes, monkeypatch: pytest.MonkeyPatch, top: bytes) -> None:
    """The mirror lists this directory of the source, and then cannot read it: everything in it is unverified."""
    fail = unreadable(monkeypatch, top)
    nodes.wire.before_frame[FrameType.SURVEY] = partial(fail, True)
    nodes.wire.before_close.append(partial(fail, False))


@pytest.mark.root
@pytest.mark.parametrize("was", ["beside", "file", "directory", "longer"])
async def test_what_the_replica_has_in_an_unverified_directory_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str
) -> None:
    """The catalog knows nothing of it, since no mirror could compare it. On the replica it is a file that the source
    lacks, a file or a directory where the source has an object of the other type, or a file that is longer."""
    async with open_nodes(tmp_path) as nodes:
        with small_disk(nodes.target.parent):
            for number in range(5):
                write(nodes.source / "d" / f"new{number}", MIB)
            old = nodes.target / "d" / "zold"
            old.parent.mkdir(parents=True)
            if was == "directory":
                (nodes.source / "d" / "zold").write_text("a file")
                for number in range(5):
                    write(old / f"{number}", MIB)
            else:
                write(old, 5 * MIB)
                if was == "file":
                    (nodes.source / "d" / "zold").mkdir()
                elif was == "longer":
                    write(nodes.source / "d" / "zold", MIB)
            rule = nodes.rule(orphans=Orphans(action=OrphanAction.DELETE))
            unread_by_the_mirror(nodes, monkeypatch, b"d")
            with pytest.raises(StopRule) as stopped:
                async with nodes.running(rule):
                    await until(lambda: False)
            assert stopped.value.code is Code.REPLICA_FULL
            await start_again(nodes, rule)
