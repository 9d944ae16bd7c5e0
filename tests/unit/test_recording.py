"""The history of a replica is open as long as somebody uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from i2core.api.journal import Position, Tip
from i2core.history.record.durable import Durable
from i2core.rule.backup.replica.replica import Replica


class Opener:
    """Opens histories that tell whether they are closed."""

    def __init__(self) -> None:
        self.closed: list[Any] = []

    @asynccontextmanager
    async def open(self, durable: Durable | None) -> AsyncIterator[Any]:
        await trio.lowlevel.checkpoint()
        history = SimpleNamespace(flags=False, epoch=0, recorder=SimpleNamespace(broken=None))
        yield history
        self.closed.append(history)


async def test_a_history_stays_open_for_a_session_that_begins_while_the_last_one_ends(tmp_path: Path) -> None:
    replica = Replica("rule", "peer", tmp_path, lambda code, line: None)
    await replica.mark_durable(0, durable=Durable(0, Tip(), Position(1, 0)))
    opener, begun, leave = Opener(), trio.Event(), trio.Event()

    async def session() -> None:
        async with replica.recording.used(opener.open, lambda: None):
            begun.set()
            await leave.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(session)
        await begun.wait()
        async with replica.recording.held() as history:
            leave.set()
            await wait_all_tasks_blocked()
            assert history is replica.recording.current is not None
            assert not opener.closed
    assert opener.closed == [history]
    assert replica.recording.current is None
