"""A backup node that has lost the state of a rule: this is reported with a code, and everything is compared."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio

from i2core.api import Change, Channel, Code, Op, Place
from i2core.rule.work import runner as work
from i2core.testing.trees import compare_trees

from .pair import open_nodes, until


async def test_a_backup_node_that_lost_the_state_of_a_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "BACKOFF_S", (0.05, 0.05))
    sessions: list[Channel] = []
    async with open_nodes(tmp_path) as nodes:
        serve = nodes.service.handle

        async def handle(stream: trio.abc.Stream, channel: Channel, peer: str | None) -> None:
            sessions.append(channel)
            await serve(stream, channel, peer)
            sessions.remove(channel)

        monkeypatch.setattr(nodes.service, "handle", handle)
        (nodes.source / "file").write_text("first")
        async with nodes.running() as status:
            (nodes.source / "file").write_text("second")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"file")))
            await until(lambda: status.durable_seq == status.seq > 1)
            assert Code.ILLEGAL_TASK not in nodes.codes()
            ports = dict(nodes.ports)
            nodes.ports.update(dict.fromkeys(Channel, 1))  # nobody listens there
            nodes.wire.net.cut()
            await until(lambda: not sessions)
            shutil.rmtree(tmp_path / "state")
            shutil.rmtree(nodes.target)
            nodes.boot()
            nodes.ports.update(ports)
            await until(lambda: Code.ILLEGAL_TASK in nodes.codes())
            await until(lambda: nodes.codes().count(Code.MIRROR_DONE) == 2)
        assert compare_trees(nodes.source, nodes.target, owners=os.geteuid() == 0) == []


async def test_what_an_earlier_run_had_durable_is_shown_before_there_is_a_session(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with nodes.running() as status:
            await until(lambda: status.durable_seq == status.seq > 0)
            durable_seq = status.durable_seq
        ports = dict(nodes.ports)
        nodes.ports.update(dict.fromkeys(Channel, 1))  # nobody listens there
        async with nodes.starting() as again:
            await until(lambda: again.code is Code.NETWORK)
            assert again.durable_seq == durable_seq
        nodes.ports.update(ports)
