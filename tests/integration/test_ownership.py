"""A target has one owner, whoever was there first, and whatever happens to the backup node in between."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from pathlib import Path

import pytest
import trio
from i2_sink_fs.apply import Applier

from i2core.api import Applied, Batch, Change, Code, Op, Place, StopRule, UsageError
from i2core.config.model import OrphanAction, Orphans, Rule
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until


def other(nodes: Nodes) -> Rule:
    """Another rule that writes the same target."""
    return nodes.rule(name="other")


def forgotten(nodes: Nodes) -> bool:
    """False while the session has not quite ended."""
    with contextlib.suppress(UsageError):
        return nodes.service.forget("data1")
    return False


async def test_another_rule_may_not_write_the_target(tmp_path: Path) -> None:
    """Not even while its owner is away, and after a restart."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("owner")
        await nodes.run()
        nodes.boot()
        with pytest.raises(StopRule, match="belongs to rule data1 of local") as refused:
            await nodes.run(other(nodes), keep=False)
        assert refused.value.code is Code.LOCKED
        assert "i2 rule forget data1" in refused.value.next_step


async def test_a_younger_epoch_takes_over_for_good(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        await nodes.run()
        (nodes.source / "file").write_text("second")
        await nodes.run(other(nodes), epoch=2, keep=False)
        assert compare_trees(nodes.source, nodes.target) == []
        for restart in (False, True):
            if restart:
                nodes.boot()
            with pytest.raises(StopRule) as refused:
                await nodes.run(epoch=1, keep=False)
            assert refused.value.code is Code.LOCKED


async def test_a_session_that_lives_is_no_reason_to_refuse_a_younger_epoch(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with pytest.raises(StopRule) as refused:
            async with nodes.running():
                (nodes.source / "file").write_text("the younger one's")
                await nodes.run(other(nodes), epoch=2, keep=False)
                assert (nodes.target / "file").read_text() == "the younger one's"
                await trio.sleep_forever()  # until it comes back, and hears of it
        assert refused.value.code is Code.LOCKED


async def test_what_the_one_before_is_still_applying_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that applies records cannot be stopped: the new owner's mirror begins when it is through."""
    applying, goes_on = threading.Event(), threading.Event()
    apply = Applier.apply

    def slow(self: Applier, batch: Batch) -> Applied:
        if any(record.path == b"late" for record in batch.records):
            applying.set()
            assert goes_on.wait(10)
        return apply(self, batch)

    async with open_nodes(tmp_path) as nodes, trio.open_nursery() as before:

        async def own() -> None:
            with pytest.raises(StopRule):
                async with nodes.running():
                    monkeypatch.setattr(Applier, "apply", slow)
                    (nodes.source / "late").write_text("of the one before")
                    nodes.capture.tell(Change(Op.CREATE, Place(0, b"late")))
                    await trio.sleep_forever()

        before.start_soon(own)
        await until(applying.is_set)
        (nodes.source / "late").unlink()
        rule = nodes.rule(name="other", orphans=Orphans(action=OrphanAction.DELETE))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(nodes.run, rule, epoch=2, keep=False))
            await trio.testing.wait_all_tasks_blocked(0.1)
            goes_on.set()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_an_older_epoch_is_told_so_while_the_owner_is_at_work(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes, nodes.running(other(nodes), epoch=2):
        with pytest.raises(StopRule) as refused:
            await nodes.run(epoch=1, keep=False)
        assert refused.value.code is Code.LOCKED


async def test_an_epoch_survives_a_node_that_dies_behind_the_welcome(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await nodes.run()
        async with nodes.running(epoch=3):
            nodes.boot()  # without an orderly end of what it served
            with pytest.raises(StopRule) as refused:
                await nodes.run(epoch=2, keep=False)
            assert refused.value.code is Code.LOCKED


async def test_a_forgotten_rule_leaves_its_target_to_others(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("owner")
        async with nodes.running():
            with pytest.raises(UsageError, match="is sending it"):
                nodes.service.forget("data1")
        await until(lambda: forgotten(nodes))
        assert not nodes.service.forget("data1")
        assert (nodes.target / "file").read_text() == "owner"
        await nodes.run(other(nodes), keep=False)


async def test_a_target_within_another_rules_target_is_refused(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        await nodes.run()
        nodes.target = nodes.target / "within"
        with pytest.raises(StopRule) as refused:
            await nodes.run(other(nodes), keep=False)
        assert refused.value.code is Code.LOCKED
