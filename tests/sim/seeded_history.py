"""Bugs for the simulation to find in what the backup node does for the history of a replica."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from i2_store_cdp.failures import SyncFailed
from i2_store_cdp.system import sync_data

import i2core.history.record.settling
from i2core.api import in_thread
from i2core.history.index.index import Index
from i2core.history.record.durable import Durable
from i2core.history.record.opening import Opening
from i2core.history.record.recorder import Recorder
from i2core.history.retention.kept import Kept
from i2core.rule.backup.session.durability import DurabilityWindow

from .hunts import Hunt, fails_with_history, keeps_history, loses_power_with_history, thins_history

Bug = Callable[[pytest.MonkeyPatch], None]


def journal_behind_replica(patch: pytest.MonkeyPatch) -> None:
    """What records destroy becomes durable after they were carried out, and not before."""
    carry_out = Recorder._carry_out
    late: list[int] = []

    async def carried_out(self: Any, *arguments: Any) -> None:
        await carry_out(self, *arguments)
        while late:
            with suppress(SyncFailed):  # of a file that was closed meanwhile
                await in_thread(partial(sync_data, late.pop()))

    patch.setattr("i2_store_cdp.writing.sync_data", late.append)
    patch.setattr(Recorder, "_carry_out", carried_out)


def position_before_journal(patch: pytest.MonkeyPatch) -> None:
    """The durable position is ahead of the journal, whose frames are synced some time later."""
    patch.setattr("i2_store_cdp.writing.sync_data", lambda fd: None)


def position_before_replica(patch: pytest.MonkeyPatch) -> None:
    """The durable position of the history is saved before the replica is synced."""

    async def make_durable(self: Any) -> None:
        history, exchanges = self._replica.recording.current, self._replica.exchanges
        if history is None:
            await self._sink.flush()
            await self._replica.mark_durable(self._unflushed.last_seq, exchanges)
            return
        async with history.recorder.certain() as durable:
            goal = self._replica.progress.applied_seq
        await self._replica.mark_durable(goal, exchanges, durable)
        await self._replica.recording.flush_sinks()
        history.durable = durable

    patch.setattr(DurabilityWindow, "_make_durable", make_durable)


def torn_batch_left(patch: pytest.MonkeyPatch) -> None:
    """A start after a crash takes index and journal back to the durable position, and leaves the replica as it is."""

    def undo(self: Opening, index: Index, durable: Durable) -> None:
        index.roll_back(durable.seq, durable.reach)

    patch.setattr(Opening, "_undo", undo)


def failed_taken_for_done(patch: pytest.MonkeyPatch) -> None:
    """What the plan said of a record that failed is believed."""
    patch.setattr(i2core.history.record.settling, "correct_catalog", lambda *_: [])


def rest_of_plan_left(patch: pytest.MonkeyPatch) -> None:
    """After a record that fails, old bytes and names of those behind it are kept as if these had been carried out."""
    patch.setattr(Index, "drop_after", lambda self, seq: None)


def a_row_too_much(patch: pytest.MonkeyPatch) -> None:
    """Retention drops rows that single kept moments need, but for the first of them."""
    needs = Kept.needs

    def needs_less(self: Kept, since: int, until: int) -> bool:
        return until > self.floor or any(since <= mark < until for mark in self.marks[:1])

    patch.setattr(Kept, "needs", needs_less)
    patch.setattr(Kept, "has", lambda self, seq: needs(self, seq, seq + 1))


HISTORY_BUGS: dict[Bug, Hunt] = {
    journal_behind_replica: Hunt(100, fit=loses_power_with_history),
    position_before_journal: Hunt(100, fit=loses_power_with_history),
    position_before_replica: Hunt(300, 159, fit=loses_power_with_history),
    torn_batch_left: Hunt(100, fit=keeps_history, quick=True),
    failed_taken_for_done: Hunt(200, fit=fails_with_history),
    rest_of_plan_left: Hunt(100, fit=fails_with_history),
    a_row_too_much: Hunt(100, fit=thins_history),
}
