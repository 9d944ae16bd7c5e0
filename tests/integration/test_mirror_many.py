"""Many entries, long names and long paths: every message fits into a frame, and an object that cannot be sent does not
stop the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from i2_sink_fs.kept import Names

from i2core.api import Change, Code, Op, Place
from i2core.config.model import OrphanAction, Orphans
from i2core.rule.backup.entry.secret import node_secret
from i2core.rule.survey import lister
from i2core.testing.memory_disk import MemoryDisk
from i2core.testing.memory_sink import memory_sink
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import open_nodes

OWNS = os.geteuid() == 0
DELETE = Orphans(action=OrphanAction.DELETE)


async def test_a_directory_of_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its orphans are the names in no chunk, and are found once."""
    monkeypatch.setattr(lister, "CHUNK_ENTRIES", 10)
    monkeypatch.setattr(lister, "FRAME_ENTRIES", 20)
    monkeypatch.setattr(lister, "FIRST_FRAME_ENTRIES", 20)
    async with open_nodes(tmp_path) as nodes:
        for number in range(95):
            (nodes.source / f"{number:02}").write_text(str(number))
        await nodes.run()
        assert nodes.wire.frames.count(FrameType.SURVEY) == 5
        for number in range(0, 95, 10):
            (nodes.source / f"{number:02}").unlink()
        status = await nodes.run(nodes.rule(orphans=DELETE))
        assert status.sent_files == 0
        assert nodes.wire.frames.count(FrameType.ORPHANS) == 1
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_leftovers_in_a_directory_of_several_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lister, "CHUNK_ENTRIES", 10)
    async with open_nodes(tmp_path) as nodes:
        for number in range(35):
            (nodes.source / f"{number:02}").write_text(str(number))
        names = Names(node_secret(nodes.home / "state"), [os.fsencode(nodes.target)])
        private = nodes.target / os.fsdecode(names.private[0])
        (private / os.fsdecode(names.tree[0])).mkdir(parents=True)
        private.chmod(0o700)
        for name in (os.fsdecode(names.new[0]), os.fsdecode(names.tree[0] + b"/04")):
            (private / name).write_text("left over")
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


async def test_a_path_that_no_record_can_hold_is_reported_and_skipped(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("kept")
        fd = os.open(nodes.source, os.O_RDONLY)
        for _ in range(260):
            os.mkdir(b"d" * 255, dir_fd=fd)
            deeper = os.open(b"d" * 255, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        os.close(fd)
        status = await nodes.run()
        assert (nodes.target / "file").read_text() == "kept"
        assert [skipped.code for skipped in status.skipped] == [Code.READ_SOURCE]


@pytest.mark.slow
async def test_long_names_and_link_texts_fit_into_frames(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        for number in range(3500):
            (nodes.source / f"{number:0255}").symlink_to("t" * 4095)
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


@pytest.mark.slow
async def test_more_orphans_than_an_answer_holds(tmp_path: Path) -> None:
    """One mirror finds all of them, page by page, and is otherwise complete."""
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        (nodes.source / "file").write_text("content")
        await nodes.run()
        root = disk.roots[os.fsencode(nodes.target)]
        node = root.entries[b"file"]
        for number in range(40_000):
            root.entries[b"%0255d" % number] = node
        (nodes.source / "other").write_text("content")
        status = await nodes.run()
        assert status.sent_files >= 1
        assert b"other" in root.entries
        (received,) = nodes.service.statuses()
        assert received.orphans == 40_000


@pytest.mark.slow
async def test_twenty_thousand_files(tmp_path: Path) -> None:
    disk = MemoryDisk()
    async with open_nodes(tmp_path, memory_sink(disk), sink="memory") as nodes:
        for number in range(20_000):
            above = nodes.source / f"{number % 40:02}"
            above.mkdir(exist_ok=True)
            (above / f"{number:05}").write_bytes(b"%d" % number)
        for number in range(5_000):
            (nodes.source / f"at the top {number:04}").touch()
        first = await nodes.run()
        assert (first.listed_files, first.sent_files, first.checked_files) == (25_000, 25_000, 25_000)
        again = await nodes.run()
        assert (again.sent_files, again.sent_bytes) == (0, 0)


async def test_a_file_that_grew_much_since_it_was_listed(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        path = nodes.source / "log"
        path.write_bytes(os.urandom(200_000))
        await nodes.run()
        path.write_bytes(path.read_bytes() + os.urandom(100_000))

        def grow(send: int) -> None:
            if nodes.wire.frames == [FrameType.HELLO] * 2 and path.stat().st_size < 1 << 20:
                with path.open("ab") as file:
                    file.write(os.urandom(12 << 20))
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"log")))

        nodes.wire.frames.clear()
        nodes.wire.before_send = grow
        await nodes.run()
        assert path.stat().st_size > 12 << 20
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        assert Code.NETWORK not in nodes.codes()
