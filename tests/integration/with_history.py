"""Two nodes whose rule has a history: changes of the source, until they are on the replica."""

from __future__ import annotations

import time

from i2core.api import Lost, Place
from i2core.rule.life.status import RuleStatus
from tests.pictures import differing, picture

from .pair import Nodes, until


async def settled(nodes: Nodes, status: RuleStatus) -> None:
    """All of the source is on the replica, and durable."""
    nodes.capture.tell(Lost(Place(0, b""), "look at all"))
    await until(lambda: not nodes.capture.unread())
    since = time.monotonic_ns()
    await until(lambda: status.settled_ns > since)
    assert not differing(picture(nodes.target), picture(nodes.source))


async def changed(nodes: Nodes, status: RuleStatus, content: bytes) -> int:
    """Another content of a file; the moment that has it."""
    (nodes.source / "file").write_bytes(content)
    await settled(nodes, status)
    async with nodes.service.history("data1") as history:
        seq: int = history.seq
    return seq
