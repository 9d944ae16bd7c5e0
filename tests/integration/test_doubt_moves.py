"""A directory whose content is unverified moves before it was compared: it is compared where it is then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Ask, Batch, Change, Code, Failure, Kind, Op, Place, Seen
from i2core.config.model import OrphanAction, Orphans
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_an_unverified_directory_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_apply, real_look, compared = FsSink.apply, FsSink.look, trio.Event()
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "other").mkdir()
        here, there, replica = nodes.source / "here", nodes.source / "other" / "there", nodes.target / "here"

        async def apply(self: FsSink, batch: Batch) -> Applied:
            made = [seq for seq, each in enumerate(batch.records, batch.first_seq) if each.kind is Kind.MKDIR]
            if not made or replica.exists():
                return await real_apply(self, batch)
            # As after a fault: an object of an older directory is there, which the catalog does not have.
            replica.mkdir()
            (replica / "left behind").write_bytes(b"old")
            here.rename(there)
            done = await real_apply(self, batch)
            failure = Failure(made[0], Place(0, b"here"), Code.OPEN_REPLICA, "on purpose", repair=True)
            return done._replace(failures=(failure,))

        async def look(self: FsSink, asks: Sequence[Ask]) -> list[Seen]:
            compared.set()
            return await real_look(self, asks)

        async with nodes.running(nodes.rule(orphans=Orphans(action=OrphanAction.DELETE))):
            monkeypatch.setattr(FsSink, "apply", apply)
            monkeypatch.setattr(FsSink, "look", look)
            here.mkdir()
            (here / "inside").write_bytes(b"content")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"here"), is_dir=True))
            with trio.move_on_after(1):
                await compared.wait()
            nodes.capture.tell(Change(Op.RENAME, Place(0, b"here"), is_dir=True, to=Place(0, b"other/there")))
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
