"""A link is down for longer than memory and spool last: this is reported, and no mirror is needed when it is back."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from i2core.api import Change, Channel, Code, Op, Place
from i2core.rule.live import replication as live
from i2core.rule.outgoing.spool import Quota
from i2core.rule.work import runner as work
from i2core.rule.work.work_rule import WorkRule
from i2core.testing.trees import compare_trees

from . import pair
from .pair import open_nodes, until


async def test_used_up_limits_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "WorkRule", partial(WorkRule, memory=Quota(4_000_000), disk=Quota(0)))
    monkeypatch.setattr(work, "BACKOFF_S", (0.5, 0.5))
    monkeypatch.setattr(live, "APART_S", 0.001)
    async with open_nodes(tmp_path) as nodes, nodes.running() as status:
        ports = dict(nodes.ports)
        nodes.ports.update(dict.fromkeys(Channel, 1))  # nobody listens there
        nodes.wire.net.cut()
        await until(lambda: Code.NETWORK in nodes.codes())
        for number in range(30):
            name = b"file%d" % number
            (nodes.source / os.fsdecode(name)).write_bytes(os.urandom(200_000))
            nodes.capture.tell(Change(Op.CREATE, Place(0, name)))
        await until(lambda: Code.MIRROR_CANCELLED in nodes.codes())
        assert status.lag_bytes < 4_000_000
        nodes.ports.update(ports)
        await until(lambda: not compare_trees(nodes.source, nodes.target, owners=os.geteuid() == 0))
        assert nodes.codes().count(Code.MIRROR_DONE) == 1, "nothing was mirrored again"
