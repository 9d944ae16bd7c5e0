"""A file with several names is mended under one of them, and gets other names before they are made one again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, Op, Place
from i2core.rule.lister import Scope
from i2core.rule.mirror import Mirror
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_a_name_that_was_sent_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_apply, real_run = FsSink.apply, Mirror.run
    async with open_nodes(tmp_path) as nodes:
        top = nodes.source
        for name in ("here", "there"):
            (top / name).mkdir()
        (top / "here" / "one").write_text("content")
        os.link(top / "here" / "one", top / "there" / "other")

        async def apply(self: FsSink, batch: Batch) -> Applied:
            done = await real_apply(self, batch)
            paths = [record.path for record in batch.records]
            if b"there/failing" not in paths:
                return done
            monkeypatch.setattr(FsSink, "apply", real_apply)
            seq, place = batch.first_seq + paths.index(b"there/failing"), Place(0, b"there/failing")
            return done._replace(failures=(Failure(seq, place, Code.OPEN_REPLICA, "on purpose", repair=True),))

        async def run(mirror: Mirror, scopes: Iterable[Scope]) -> None:
            await real_run(mirror, scopes)
            monkeypatch.setattr(Mirror, "run", real_run)
            (top / "here" / "one").rename(top / "here" / "renamed")
            nodes.capture.tell(
                Change(Op.RENAME, Place(0, b"here/one"), to=Place(0, b"here/renamed")),
                Change(Op.CREATE, Place(0, b"here/third")),
            )

        async with nodes.running():
            # With a third name, of which nobody has told yet, it is not the file that the replica has under two.
            os.link(top / "here" / "one", top / "here" / "third")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"here/one")))
            ctime_ns = (top / "here" / "one").stat().st_ctime_ns
            await until(lambda: (nodes.target / "here" / "one").stat().st_ctime_ns > ctime_ns)
            monkeypatch.setattr(FsSink, "apply", apply)
            monkeypatch.setattr(Mirror, "run", run)
            (top / "there" / "failing").write_text("content")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"there/failing")))
            await until(lambda: Mirror.run is real_run)
            await until(lambda: compare_trees(top, nodes.target) == [])
