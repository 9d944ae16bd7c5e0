"""A job's notes in the catalog and its records are kept or dropped together, however the run ends."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import trio

from i2core.api import Change, Entry, Op, Place, StopRule
from i2core.api.tree import OpenDirectory
from i2core.config.model import MirrorOptions, OnError
from i2core.rule.catalog.doubts import DoubtTable
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.source.draft import Drafted, Large, OnOpen, draft
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until


async def edit(nodes: Nodes, *names: str) -> None:
    """Changes files at the same time, and reports them."""
    for name in names:
        (nodes.source / name).write_text("new, and longer")
    nodes.capture.tell(*(Change(Op.CREATE, Place(0, name.encode())) for name in names))


async def test_a_file_that_stops_the_rule_loses_no_other_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another change in the same job is sent by the next run."""

    def failing(directory: OpenDirectory, place: Place, entry: Entry, on_open: OnOpen) -> Drafted | Large:
        if place.path == b"bad":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return draft(directory, place, entry, on_open)

    async with open_nodes(tmp_path) as nodes:
        rule = nodes.rule(mirror=MirrorOptions(on_error=OnError.STOP))
        (nodes.source / "a").write_text("old")
        with pytest.raises(StopRule), monkeypatch.context() as patch:
            async with nodes.running(rule):
                patch.setattr("i2core.rule.live.make.draft", failing)
                await edit(nodes, "a", "bad")
                await trio.sleep_forever()
        assert (nodes.target / "a").read_text() == "old"
        async with nodes.running(rule):
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


@pytest.mark.parametrize("where", ["job", "seal", "keep"])
async def test_a_job_that_raises_anything_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, notes = Reconciler.job, DoubtTable.keep

    def job(self: Reconciler, *arguments: object) -> object:
        outcome = real(self, *arguments)  # type: ignore[arg-type]
        if outcome.records:
            raise RuntimeError("on purpose")
        return outcome

    def keep_doubts(self: DoubtTable, last_seq: int, doubts: object) -> None:
        notes(self, last_seq, doubts)  # type: ignore[arg-type]
        if last_seq < 1 << 62:
            raise RuntimeError("on purpose")

    def keep(self: Outgoing, *arguments: object) -> None:
        raise RuntimeError("on purpose")

    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "a").write_text("old")
        with pytest.raises(RuntimeError, match="on purpose"), monkeypatch.context() as patch:
            async with nodes.running():
                if where == "job":
                    patch.setattr(Reconciler, "job", job)
                elif where == "seal":
                    patch.setattr(DoubtTable, "keep", keep_doubts)
                else:
                    patch.setattr(Outgoing, "keep", keep)
                await edit(nodes, "a", "b")
                await trio.sleep_forever()
        assert (nodes.target / "a").read_text() == "old"
        async with nodes.running():
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
