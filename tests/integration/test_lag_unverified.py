"""Unverified places are not safe: the lag counts them until they have been compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Ask, Seen

if TYPE_CHECKING:
    from tests.conftest import OpenPair

TICKS_S = 1.0
"""The status is renewed more than once in this time."""


async def test_an_unverified_place_counts_as_lag(open_pair: OpenPair, monkeypatch: pytest.MonkeyPatch) -> None:
    look, asked, answer = FsSink.look, trio.Event(), trio.Event()

    async def look_late(self: FsSink, asks: Sequence[Ask]) -> list[Seen]:
        asked.set()
        await answer.wait()
        return await look(self, asks)

    async with open_pair() as pair:
        await pair.settle()
        monkeypatch.setattr(FsSink, "look", look_late)
        status, before = pair.status, pair.status.seq
        pair.drivers.faults.armed = lambda record: record.path == b"broken"
        (pair.sources[0] / "broken").write_bytes(b"not applied")
        with trio.fail_after(10):
            await asked.wait()
        with trio.move_on_after(TICKS_S) as patience:
            while not (status.durable_seq == status.seq > before and status.oldest_pending_ns is None):  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert patience.cancelled_caught, "nothing owed, it says, while a file is missing on the replica"
        answer.set()
        await pair.check()
