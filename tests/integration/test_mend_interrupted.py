"""Mending finds a directory that the replica lacks, and the link breaks before what is in it has crossed."""

from __future__ import annotations

from pathlib import Path

import pytest
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, LinkError, Op, Place
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_what_is_in_a_directory_that_mending_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
