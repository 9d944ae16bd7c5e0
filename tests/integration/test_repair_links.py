"""Files with several names are repaired under one of them, and the others are linked to it again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, Op, Place
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType

from .pair import open_nodes, until


def fail_once(monkeypatch: pytest.MonkeyPatch, path: bytes) -> None:
    """The next batch with a record of that path fails there, so that its directory is repaired."""
    real = FsSink.apply

    async def apply(self: FsSink, batch: Batch) -> Applied:
        done = await real(self, batch)
        paths = [record.path for record in batch.records]
        if path not in paths:
            return done
        monkeypatch.setattr(FsSink, "apply", real)
        seq = batch.first_seq + paths.index(path)
        return done._replace(failures=(Failure(seq, Place(0, path), Code.OPEN_REPLICA, "on purpose", repair=True),))

    monkeypatch.setattr(FsSink, "apply", apply)


@pytest.mark.parametrize("size", [100, 300_000, 5_000_000])
@pytest.mark.parametrize("content", [b"1", b"2"])
async def test_a_name_that_another_file_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, size: int
) -> None:
    """The replica's file of that name is patched, or has the right content, but it is still another file."""
    async with open_nodes(tmp_path) as nodes:
        top = nodes.source
        for name in ("here", "there"):
            (top / name).mkdir()
        (top / "here" / "name").write_bytes(b"1" * size)
        (top / "there" / "name").write_bytes(b"0" * size)
        async with nodes.running() as status:
            times = (top / "here" / "name").stat()
            (top / "here" / "name").unlink()
            os.link(top / "there" / "name", top / "here" / "name")
            (top / "here" / "name").write_bytes(content * size)
            os.utime(top / "here" / "name", ns=(times.st_atime_ns, times.st_mtime_ns))
            fail_once(monkeypatch, b"here/failing")
            since = time.monotonic_ns()
            (top / "here" / "failing").write_text("content")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"here/failing")))
            failing = nodes.target / "here" / "failing"
            await until(lambda: failing.exists() and status.settled_ns > since)
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"here/name")), Change(Op.MODIFY, Place(0, b"here/name")))
            await until(lambda: compare_trees(top, nodes.target) == [])


async def test_a_name_that_was_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        top = nodes.source
        for name in ("here", "there"):
            (top / name).mkdir()
        (top / "here" / "one").write_text("content")
        os.link(top / "here" / "one", top / "there" / "other")

        def compared() -> None:
            nodes.wire.before_frame[FrameType.BATCH] = sent_anew

        def sent_anew() -> None:
            (top / "here" / "one").rename(top / "here" / "renamed")
            nodes.capture.tell(
                Change(Op.RENAME, Place(0, b"here/one"), to=Place(0, b"here/renamed")),
                Change(Op.CREATE, Place(0, b"here/third")),
            )

        async with nodes.running():
            # With a third name, which is not reported yet, it is not the file that the replica has under two.
            os.link(top / "here" / "one", top / "here" / "third")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"here/one")))
            ctime_ns = (top / "here" / "one").stat().st_ctime_ns
            await until(lambda: (nodes.target / "here" / "one").stat().st_ctime_ns > ctime_ns)
            fail_once(monkeypatch, b"there/failing")
            nodes.wire.before_frame[FrameType.SURVEY] = compared
            (top / "there" / "failing").write_text("content")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"there/failing")))
            await until(lambda: not nodes.wire.before_frame)
            await until(lambda: compare_trees(top, nodes.target) == [])


async def test_a_name_that_went_before_what_was_sent_under_it_was_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record sent under it changed the other name as well, which has no record of its own."""
    real = FsSink.apply

    async def apply(self: FsSink, batch: Batch) -> Applied:
        await trio.sleep_forever()
        raise AssertionError

    async with open_nodes(tmp_path) as nodes:
        one, two = nodes.source / "here" / "one", nodes.source / "there" / "two"
        one.parent.mkdir()
        two.parent.mkdir()
        one.write_text("content")
        os.link(one, two)
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
            monkeypatch.setattr(FsSink, "apply", apply)
            one.write_text("other content")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"here/one")))
            before = status.seq
            await until(lambda: status.seq > before)
        monkeypatch.setattr(FsSink, "apply", real)
        one.parent.rename(tmp_path / "away")
        async with nodes.running():
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
