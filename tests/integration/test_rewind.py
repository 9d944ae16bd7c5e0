"""A replica that an administrator has turned back, and its work node."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import trio

from i2core.api import Code, I2Error, Lost, Place, UsageError
from i2core.config.model import Brake, CdpRetention, Rule
from i2core.rule.backup.replica.rewound import Stage
from i2core.rule.life.status import Received, RuleStatus
from tests.pictures import differing, picture

from .pair import Nodes, open_nodes, until

KEY = ("local", "data1")


def _rule(nodes: Nodes) -> Rule:
    rule: Rule = nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0))
    return rule


async def _settled(nodes: Nodes, status: RuleStatus) -> int:
    """All of the source is on the replica, and durable; the moment."""
    nodes.capture.tell(Lost(Place(0, b""), "look at all"))
    await until(lambda: not nodes.capture.unread())
    since = time.monotonic_ns()
    await until(lambda: status.settled_ns > since)
    assert not differing(picture(nodes.target), picture(nodes.source))
    async with nodes.service.history("data1") as history:
        seq: int = history.seq
    return seq


async def _turn_back(nodes: Nodes, seq: int) -> None:
    rewinds = nodes.service.rewinds
    turned = await rewinds.run(KEY, await rewinds.note(KEY, seq, 1), lambda progress: None)
    assert turned.equal and not turned.failures


async def test_the_work_node_is_refused_until_a_release(tmp_path: Path) -> None:
    """It compares contents then: what the rewind has changed may have the right size and time."""
    async with open_nodes(tmp_path) as nodes:
        file = nodes.source / "file"
        file.write_text("first")
        os.utime(file, (5, 5))
        async with nodes.running(_rule(nodes)) as status:
            first = await _settled(nodes, status)
            file.write_text("other")
            os.utime(file, (6, 6))
            await _settled(nodes, status)
            with pytest.raises(UsageError, match="is sending it"):
                await nodes.service.rewinds.note(KEY, first, 1)
        await until(lambda: nodes.service.statuses()[0].state is Received.WAITING)
        await _turn_back(nodes, first)
        os.utime(nodes.target / "file", (6, 6))
        assert (nodes.target / "file").read_text() == "first"
        for _ in range(2):  # a restart changes nothing
            with pytest.raises(I2Error) as refused:
                async with nodes.running(_rule(nodes)) as status:
                    await _settled(nodes, status)
            assert refused.value.code is Code.TURNED_BACK
            (status_here,) = nodes.service.statuses()
            assert (status_here.state, bool(status_here.turned_back)) == (Received.HELD, True)
            nodes.boot()
        assert not nodes.service.rewinds.unfinished()
        assert await nodes.service.release("data1")
        assert not await nodes.service.release("data1")
        async with nodes.running(_rule(nodes)) as status:
            await _settled(nodes, status)
        (status_here,) = nodes.service.statuses()
        assert not status_here.turned_back
        position = nodes.service.position("data1")
        assert position is not None and not position.rewind


async def test_a_rewind_that_was_cut_off_is_known_at_the_next_start(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with nodes.running(_rule(nodes)) as status:
            first = await _settled(nodes, status)
            (nodes.source / "file").write_text("second")
            await _settled(nodes, status)
        await until(lambda: nodes.service.statuses()[0].state is Received.WAITING)
        await nodes.service.rewinds.note(KEY, first, 1)
        nodes.boot()
        assert [each.turned_back for each in nodes.service.statuses()] == []
        ((key, rewound),) = await trio.to_thread.run_sync(nodes.service.rewinds.unfinished)
        assert (key, rewound.seq, rewound.stage) == (KEY, first, Stage.UNDER_WAY)
        with pytest.raises(I2Error) as refused:
            async with nodes.running(_rule(nodes)) as status:
                await _settled(nodes, status)
        assert refused.value.code is Code.TURNED_BACK
        await nodes.service.rewinds.run(key, rewound, lambda progress: None)
        assert (nodes.target / "file").read_text() == "first"
        assert not await trio.to_thread.run_sync(nodes.service.rewinds.unfinished)


async def test_a_replica_whose_past_is_read_is_not_listed_as_received(tmp_path: Path) -> None:
    """Nor is one whose past is given up: the list says which rules are in use."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with nodes.running(_rule(nodes)) as status:
            await _settled(nodes, status)
        await until(lambda: nodes.service.statuses()[0].state is Received.WAITING)
        nodes.boot()
        await nodes.service.passes.run_once()
        async with nodes.service.history("data1"):
            assert nodes.service.statuses() == []
        async with nodes.running(_rule(nodes)) as status:
            await _settled(nodes, status)
        assert [each.name for each in nodes.service.statuses()] == ["data1"]
