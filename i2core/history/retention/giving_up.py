"""Gives up what a history does not promise any more: segments are dropped and merged, and the store is swept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import trio

from i2core.api.journal import JournalFull, Segment
from i2core.history.retention.choice import below, runs
from i2core.history.retention.held import Held, turn
from i2core.history.retention.joint import Joint, Outcome
from i2core.history.retention.kept import Kept
from i2core.history.retention.policy import DAY_NS
from i2core.history.retention.promise import Promise
from i2core.history.retention.reserve import with_reserve
from i2core.history.retention.state import State
from i2core.history.retention.sweep import Sweep

SPARE_BYTES = 64 * 1024 * 1024
"""With less room than this, merging takes the reserve from the beginning: the index has none of its own."""
_SLICE_S = 0.05

_Drop = Callable[[Sequence[Segment], Kept, State], Awaitable[State | None]]


class GivingUp:
    """Of one history. One call at a time."""

    def __init__(self, held: Held, promise: Promise) -> None:
        self._held, self._promise = held, promise
        self.outcome = Outcome()
        """Of the merges so far."""
        self._joint = Joint(held)
        self._swept = -1

    async def drop_and_merge(self, *, on_full_disk: bool = False) -> None:
        """Drops and merges, until there is nothing left to do, or no room to do it in.

        Raises:
            StopRule: the journal or the index is damaged, or its disk fails.
        """
        await self._close_segment()
        drop = self._joint.drop_only if on_full_disk else self._joint.drop
        while await self._drop(drop) or await self._merge():
            pass

    async def _close_segment(self) -> None:
        """A segment whose first record is a day old, or below the floor, takes no more records: else the last ones of a
        quiet history would never be given up."""
        last = self._held.journal.segments[-1]
        if last.next_seq == last.first_seq or last.first_seq > self._held.durable.seq:
            return  # the log beyond the durable position may be written anew just now
        begun_ns = await self._promise.asked(lambda applied: applied.planned_ns(last.first_seq))
        is_old = self._held.clock.now_ns() - (begun_ns or 0) >= DAY_NS
        if last.first_seq <= self._promise.state.floor or is_old:
            await with_reserve(self._held.journal, self._held.journal.roll)

    async def _drop(self, drop: _Drop) -> bool:
        promise = self._promise
        kept = promise.needed
        run = below(self._held.journal.segments, kept.oldest)
        while run:
            try:
                state = await drop(run, kept, promise.state)
            except JournalFull:
                state = await self._joint.drop_only(run, kept, promise.state)
            if state is not None:
                promise.state = state
                return True
            run.pop()
        return False

    async def _merge(self) -> bool:
        """One merge, the oldest that is due and fits."""
        promise, space = self._promise, await self._held.journal.space()
        kept = promise.needed
        if space.free_bytes < SPARE_BYTES:
            await self._held.journal.use_reserve()
        room = space.free_bytes + space.reserve_bytes
        for run in runs(self._held.journal.segments, kept, room):
            try:
                promise.state = await self._joint.merge(run, kept, promise.state, self.outcome)
            except JournalFull:
                continue
            return True
        return False

    async def sweep(self) -> None:
        """Removes from the store what no row names any more; only after something was given up.

        Raises:
            StopRule: as `drop_and_merge`.
            OSError: the replica cannot be changed.
        """
        generation = self._promise.state.generation
        if self._swept == generation:
            return
        steps = Sweep(self._held.index, self._held.replica, self._promise.needed).run()
        try:
            more = True
            while more:
                began = time.perf_counter()
                async with self._held.recorder.at_rest():
                    more = await turn(self._held, partial(_slice, steps))
                await trio.sleep(time.perf_counter() - began)  # records have their turn
        finally:
            with trio.CancelScope(shield=True):
                await turn(self._held, steps.close)
        self._swept = generation


def _slice(steps: Iterator[None]) -> bool:
    """Goes on with the sweep for a while; False: it has ended."""
    end = time.perf_counter() + _SLICE_S
    return any(time.perf_counter() > end for _ in steps)
