"""A target has one owner, the first rule that wrote it, whatever happens to the backup node in between."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from i2_filter_glob.plugin import i2_filters
from i2_sink_fs.apply import Applier
from i2_sink_fs.progress import Progress

from i2core.api import Change, Code, I2Error, LinkError, Op, Place, StopRule, UsageError
from i2core.config.model import DriverChoice, OrphanAction, Orphans, PeerEntry, Rule
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.life.status import Received
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until


def other(nodes: Nodes) -> Rule:
    """Another rule that writes the same target."""
    return nodes.rule(name="other")


async def hand_over(nodes: Nodes) -> None:
    """An administrator of the backup node hands the target over to `other`."""
    assert await nodes.service.hand_over("data1", "local", "local", "other")


def forgotten(nodes: Nodes) -> bool:
    """Forgets the rule; False while its session has not ended."""
    with contextlib.suppress(UsageError):
        return nodes.service.forget("data1")
    return False


async def test_another_rule_may_not_write_the_target(tmp_path: Path) -> None:
    """Not even while its owner is disconnected, nor after a restart."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("owner")
        await nodes.run()
        nodes.boot()
        with pytest.raises(StopRule, match="belongs to rule data1 of local") as refused:
            await nodes.run(other(nodes), keep=False)
        assert refused.value.code is Code.LOCKED
        assert "i2 rule forget local/data1" in refused.value.next_step


@pytest.mark.parametrize("alive", [False, True])
async def test_no_epoch_takes_another_rules_target(tmp_path: Path, alive: bool) -> None:
    """Whoever claims it, and whether the owner is connected or not: the owner's target, one in it, and one that
    contains it."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("owner")
        await nodes.run()
        owner, target = nodes.running() if alive else contextlib.nullcontext(), nodes.target
        async with owner:
            for place in (target, target / "within", target.parent):
                nodes.target = place
                with pytest.raises(StopRule, match="rule other of local is refused") as refused:
                    await nodes.run(other(nodes), epoch=1 << 60, keep=False)
                assert refused.value.code is Code.LOCKED
                nodes.target = target
        assert (target / "file").read_text() == "owner"


async def test_a_target_by_another_way_is_the_same(tmp_path: Path) -> None:
    """For example if two allowed directories are the same one."""
    async with open_nodes(tmp_path) as nodes:
        alias = tmp_path / "alias"
        alias.symlink_to(nodes.target.parent)
        nodes.role = attrs.evolve(nodes.role, allow_roots=(*nodes.role.allow_roots, os.fsencode(alias)))
        nodes.boot()
        await nodes.run()
        nodes.target = alias / nodes.target.name
        with pytest.raises(StopRule, match="belongs to rule data1"):
            await nodes.run(other(nodes), keep=False)


async def test_a_permission_to_take_over_is_used_once_and_by_one_rule(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("owner")
        await nodes.run()
        assert not await nodes.service.hand_over("data2", None, "local", "other")
        await hand_over(nodes)
        nodes.boot()
        with pytest.raises(StopRule, match="belongs to rule data1"):
            await nodes.run(nodes.rule(name="third"), epoch=9, keep=False)
        await nodes.run(other(nodes), keep=False)
        with pytest.raises(StopRule, match="belongs to rule other"):
            await nodes.run(epoch=9, keep=False)


@pytest.mark.parametrize("link", [False, True])
async def test_a_peer_writes_beneath_its_own_directories_alone(tmp_path: Path, link: bool) -> None:
    """Its targets and its orphans; also if another peer has created a symlink there."""
    async with open_nodes(tmp_path) as nodes:
        backup = nodes.target.parent
        peer = PeerEntry(name="local", allow_roots=(os.fsencode(backup / "own"),))
        nodes.role = attrs.evolve(nodes.role, peers=(peer,))
        nodes.boot()
        (tmp_path / "outside").mkdir()
        if link:
            (backup / "own").symlink_to(tmp_path / "outside")
        (nodes.source / "file").write_text("x")
        for place in (backup, backup / "other", backup / "own-not", backup / "own" / ".." / "other", tmp_path):
            nodes.target = place
            with pytest.raises(StopRule) as refused:
                await nodes.run(keep=False)
            assert refused.value.code is Code.ILLEGAL_PATH
        nodes.target = backup / "own" / "data"
        aside = Orphans(action=OrphanAction.MOVE, to=os.fsencode(backup / "aside"))
        with pytest.raises(StopRule):
            await nodes.run(nodes.rule(orphans=aside), keep=False)
        if link:
            with pytest.raises(StopRule):
                await nodes.run(keep=False)
        else:
            await nodes.run(keep=False)
            assert (nodes.target / "file").read_text() == "x"
        assert os.listdir(tmp_path / "outside") == []


async def test_orphans_are_not_moved_into_directories_of_others(tmp_path: Path) -> None:
    """Neither into another rule's target nor above it; and no target may be where another rule's orphans are."""

    def moving(to: Path) -> Orphans:
        return Orphans(action=OrphanAction.MOVE, to=os.fsencode(to))

    async with open_nodes(tmp_path) as nodes:
        target, aside = nodes.target, nodes.target.parent / "aside"
        await nodes.run(nodes.rule(name="data1", orphans=moving(aside)))
        nodes.target = target.parent / "elsewhere"
        for to in (target, target / "within", target.parent, Path("/"), tmp_path / "outside", Path("/etc")):
            with pytest.raises((StopRule, UsageError)):
                await nodes.run(nodes.rule(name="other", orphans=moving(to)), keep=False)
        nodes.target = aside / "within"
        with pytest.raises(StopRule, match="orphans of rule data1"):
            await nodes.run(nodes.rule(name="other"), keep=False)


async def test_a_newer_epoch_takes_over_for_good(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        await nodes.run()
        (nodes.source / "file").write_text("second")
        await hand_over(nodes)
        await nodes.run(other(nodes), epoch=2, keep=False)
        assert compare_trees(nodes.source, nodes.target) == []
        for restart in (False, True):
            if restart:
                nodes.boot()
            with pytest.raises(StopRule) as refused:
                await nodes.run(epoch=1, keep=False)
            assert refused.value.code is Code.LOCKED


@pytest.mark.parametrize("by", ["hand-over", "epoch"])
async def test_staging_files_of_the_previous_owner_are_removed(tmp_path: Path, by: str) -> None:
    """Also where the new owner does not list anything."""
    async with open_nodes(tmp_path, *i2_filters()) as nodes:
        await nodes.stage("theirs/large")
        excluding = DriverChoice(name="glob", options={"exclude": (str(nodes.source / "theirs"),)})
        name = "data1"
        if by == "hand-over":
            await hand_over(nodes)
            name = "other"
        await nodes.run(nodes.rule(name=name, filters=(excluding,)), epoch=2, keep=False)
        assert nodes.private() == []


async def test_an_open_session_is_no_reason_to_refuse_a_newer_epoch(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with pytest.raises(StopRule) as refused:
            async with nodes.running():
                await hand_over(nodes)
                (nodes.source / "file").write_text("the younger one's")
                await nodes.run(other(nodes), epoch=2, keep=False)
                assert (nodes.target / "file").read_text() == "the younger one's"
                await trio.sleep_forever()  # until it comes back and is refused
        assert refused.value.code is Code.LOCKED


async def test_records_of_the_previous_owner_are_applied_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that applies records cannot be stopped: the new owner's mirror begins when it has finished."""
    applying, goes_on = threading.Event(), threading.Event()
    apply = Applier.apply

    def slow(self: Applier, progress: Progress) -> None:
        record = progress.next()
        if record is not None and record.path == b"late":
            applying.set()
            assert goes_on.wait(10)
        apply(self, progress)

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
        await hand_over(nodes)
        rule = nodes.rule(name="other", orphans=Orphans(action=OrphanAction.DELETE))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(nodes.run, rule, epoch=2, keep=False))
            await trio.testing.wait_all_tasks_blocked(0.1)
            goes_on.set()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_an_older_epoch_is_refused_as_such_while_the_owner_is_connected(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes, nodes.running(other(nodes), epoch=2):
        with pytest.raises(StopRule) as refused:
            await nodes.run(epoch=1, keep=False)
        assert refused.value.code is Code.LOCKED


async def test_an_epoch_survives_a_node_that_dies_after_the_welcome(tmp_path: Path) -> None:
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
        # Its session ends a moment later; until then it counts as writing the target now.
        await until(lambda: all(each.state is Received.WAITING for each in nodes.service.statuses()))
        nodes.target = nodes.target / "within"
        with pytest.raises(StopRule) as refused:
            await nodes.run(other(nodes), keep=False)
        assert refused.value.code is Code.LOCKED


@pytest.mark.parametrize("crash", ["none", "before it is taken", "before the owner is put out"])
async def test_a_target_that_changes_hands_is_still_that_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: str
) -> None:
    """The new owner gets what was known about the directory: if its disk is not mounted nothing is created, wherever
    the node died during the change of owner."""
    async with open_nodes(tmp_path) as nodes:
        mount = nodes.target.parent / "mount"
        mount.mkdir()
        nodes.target = mount / "data"
        (nodes.source / "file").write_text("owner")
        await nodes.run()
        await hand_over(nodes)
        if crash != "none":
            begin = Replica.begin

            async def dying(replica: Replica, epoch: int, targets: Sequence[bytes], *roots: Any, **more: Any) -> None:
                if crash == "before it is taken" or not targets:
                    raise LinkError("the node dies")
                await begin(replica, epoch, targets, *roots, **more)

            monkeypatch.setattr(Replica, "begin", dying)
            with pytest.raises(I2Error):
                await nodes.run(other(nodes), keep=False)
            monkeypatch.undo()
        mount.rename(mount.with_name("elsewhere"))
        mount.mkdir()
        nodes.boot()
        with pytest.raises(StopRule) as stopped:
            await nodes.run(other(nodes), keep=False)
        assert stopped.value.code is Code.REPLICA_GONE
        assert list(mount.iterdir()) == []
