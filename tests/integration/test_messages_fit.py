"""However many changes there are, and however long the paths, each message fits into a frame."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import Change, Kind, Op, Place, Record
from i2core.rule.backup.session import receive
from i2core.testing.trees import compare_trees
from i2core.wire import frame, message_size, session
from i2core.wire.batch import SeqCounter
from i2core.wire.messages import Ack

from .pair import open_nodes, until
from .test_mirror_seqs import speaking

DEEP = b"/".join([b"d" * 200] * 12)
FILES = 60


@pytest.fixture
def small_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes frames so small that a dozen of the paths fit."""
    for module in (frame, session, receive, message_size):
        if hasattr(module, "FRAME_LIMIT"):
            monkeypatch.setattr(module, "FRAME_LIMIT", 32 << 10)
    monkeypatch.setattr(message_size, "MESSAGE_BYTES", 30 << 10)


def deep_directory(root: Path) -> Path:
    made = root / os.fsdecode(DEEP)
    made.mkdir(parents=True)
    return made


async def test_a_mirror_of_long_paths(tmp_path: Path, small_frames: None) -> None:
    async with open_nodes(tmp_path) as nodes:
        deep = deep_directory(nodes.source)
        for number in range(FILES):
            (deep / f"{number}").write_text("content")
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_live_changes_beneath_long_paths(tmp_path: Path, small_frames: None) -> None:
    """Objects are created, linked, renamed (two paths in each record) and removed in one job."""
    async with open_nodes(tmp_path) as nodes:
        deep = deep_directory(nodes.source)
        for number in range(FILES):
            (deep / f"{number}").write_text("content")
        async with nodes.running():
            changes: list[Change] = []
            for number in range(FILES):
                os.rename(deep / f"{number}", deep / f"new{number}")
                os.link(deep / f"new{number}", deep / f"link{number}")
                old, new, link = (Place(0, DEEP + b"/%s%d" % (name, number)) for name in (b"", b"new", b"link"))
                changes += [Change(Op.RENAME, old, to=new), Change(Op.CREATE, link)]
            nodes.capture.tell(*changes)
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
            for number in range(FILES):
                os.unlink(deep / f"new{number}")
            nodes.capture.tell(*(Change(Op.REMOVE, Place(0, DEEP + b"/new%d" % number)) for number in range(FILES)))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_more_failures_than_one_ack_holds(tmp_path: Path) -> None:
    """Each of these paths takes 200 kB as JSON. No ack is ahead of the failures that were reported before it."""
    async with open_nodes(tmp_path) as nodes:
        acks: list[Ack] = []
        path = b"/".join([b"\xff" * 250] * 130)
        async with speaking(nodes, SeqCounter(), acks) as live:
            await live.send_records([Record(Kind.WRITE, 0, path + b"/%d" % n, data=b"x") for n in range(100)])
            await live.settle()
    told: set[int] = set()
    for ack in acks:
        told |= {failure.seq for failure in ack.failures}
        assert told >= set(range(1, ack.applied_seq + 1))
    assert told == set(range(1, 101))
    assert len(acks) > 20
