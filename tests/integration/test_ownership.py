"""A target has one owner, whoever was there first, and whatever happens to the backup node in between."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import trio

from i2core.api import Code, StopRule, UsageError
from i2core.config.model import Rule
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
