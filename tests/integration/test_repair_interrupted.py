"""The link breaks in the middle of a repair, or of what a session checks again when it begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, LinkError, Op, Place
from i2core.rule.live.send import Sender
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import open_nodes, until

MIB = 1 << 20


async def test_the_content_of_a_directory_that_a_repair_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, faults = FsSink.apply, ["fails", "breaks"]

    async def faulty(self: FsSink, batch: Batch) -> Applied:
        paths = [record.path for record in batch.records]
        if "fails" in faults and b"file" in paths:
            faults.remove("fails")
            seq, place = batch.first_seq + paths.index(b"file"), Place(0, b"file")
            done = await apply(self, batch)
            return done._replace(failures=(Failure(seq, place, Code.OPEN_REPLICA, "on purpose", repair=True),))
        if "breaks" in faults and b"new/inside" in paths:
            faults.remove("breaks")
            raise LinkError("broken on purpose")
        return await apply(self, batch)

    monkeypatch.setattr("i2core.rule.work.runner.BACKOFF_S", (0.02, 0.1))
    async with open_nodes(tmp_path) as nodes, nodes.running():
        monkeypatch.setattr(FsSink, "apply", faulty)
        (nodes.source / "new").mkdir()
        (nodes.source / "new" / "inside").write_bytes(b"content")
        (nodes.source / "file").write_bytes(b"content")
        nodes.capture.tell(Change(Op.CREATE, Place(0, b"file")))
        await until(lambda: compare_trees(nodes.source, nodes.target) == [])
        assert faults == []


async def test_a_large_file_whose_transfer_is_interrupted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of it was sent; and then before its place was looked up."""
    send_again, breaks = Sender.send_again, ["first", "second"]

    def broken() -> None:
        breaks.remove("first")
        raise trio.BrokenResourceError

    monkeypatch.setattr("i2core.rule.work.runner.BACKOFF_S", (0.02, 0.1))
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "large").write_bytes(os.urandom(5 * MIB))
        await nodes.run()

        async def interrupted(self: Sender, applied_seq: int) -> None:
            await send_again(self, applied_seq)
            if breaks == ["second"]:
                breaks.remove("second")
                nodes.wire.net.cut()
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.2)  # the session hears of it

        monkeypatch.setattr(Sender, "send_again", interrupted)
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)  # the walk that a start begins is over
            nodes.wire.before_frame[FrameType.BATCH] = broken
            (nodes.source / "large").write_bytes(os.urandom(5 * MIB))
            (nodes.source / "small").write_text("small")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"large")), Change(Op.CREATE, Place(0, b"small")))
            await until(lambda: not breaks)
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
