"""Gives up the past as it was promised: the runner, with its passes, and with the room that it makes on a full disk.

One pass:

    clock ─▶ policy ─▶ marks, then the floor, noted in the journal ─▶ segments dropped and merged ─▶ store swept

The first two are decided by `promise`, the others done by `giving_up`. After a crash at any point the next pass goes on
where this one ended.
"""

from __future__ import annotations

import errno
import math
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import trio

from i2core.api import Code, StopRule
from i2core.api.journal import JournalFull
from i2core.config.words import Bilingual, bilingual
from i2core.history.retention.figures import Figures
from i2core.history.retention.giving_up import GivingUp
from i2core.history.retention.held import Held
from i2core.history.retention.kept import Kept
from i2core.history.retention.objective import Objective, Used
from i2core.history.retention.pins import Pins
from i2core.history.retention.policy import DAY_NS
from i2core.history.retention.promise import Promise
from i2core.history.retention.reserve import with_reserve
from i2core.history.retention.terms import Keeping
from i2core.history.retention.trim import Trim

PASS_S = 3600.0
"""Seconds between two passes."""
ROOM_BYTES = 32 * 1024 * 1024
"""So much room is made for records on a full disk, and half of it for the index before the disk is full: but no more
than a `ROOM_SHARE`th of the disk."""
ROOM_SHARE = 16

Report = Callable[[Code, Bilingual], None]


class Thinner:
    """The runner of one history. Its methods may be called beside each other; one works at a time."""

    def __init__(self, held: Held, promise: Promise, keeping: Keeping) -> None:
        self.promise = promise
        self.giving_up = GivingUp(held, promise)
        self.forecast = keeping.forecast
        self._held, self._days, self._terms = held, keeping.days, keeping.terms
        self._turn = trio.Lock()
        self._scope = trio.CancelScope()
        self._is_closed = False
        self._clock_was_wrong = False

    @classmethod
    async def begin(cls, held: Held, keeping: Keeping) -> Self:
        """The runner of an open history, whose index agrees with its journal (`joint.agree`). A new history gets its
        note.

        Raises:
            StopRule: the note cannot be read or written.
        """
        return cls(held, await Promise.begin(held, keeping), keeping)

    async def close(self) -> None:
        """Nothing more is given up. What is under way is broken off, and has ended when this returns: journal and index
        may be closed."""
        self._is_closed = True
        self._scope.cancel()
        async with self._turn:
            pass

    @asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        """A turn of this runner.

        Raises:
            OSError: the history was closed.
        """
        async with self._turn:
            with trio.CancelScope() as self._scope:
                if not self._is_closed:
                    try:
                        yield
                    except Exception as error:
                        if _breaks(error):
                            self._held.recorder.broken = error
                        raise
                    return
            raise OSError(errno.EUCLEAN, "the history was closed")

    # ------------------------------------------------------------------------------------------- what others ask

    @property
    def pins(self) -> Pins:
        """Moments that are read just now."""
        return self._held.pins

    @property
    def kept(self) -> Kept:
        """Which moments can be had, also after a restart."""
        return self.promise.kept

    def objective(self) -> Objective:
        """What is promised, and what is kept."""
        return self.promise.objective()

    def figures(self) -> Figures:
        """What is promised and kept, for who watches it."""
        marks, samples = self._held.journal.marks, self.forecast.samples
        return Figures(
            objective=self.objective(),
            oldest_ns=min([self.promise.state.floor_ns, *(mark.time_ns for mark in marks)]),
            lock_s=self._terms().own.lock_s,
            full_in_s=self.forecast.full_in_s,
            used_bytes=samples[-1].used_bytes if samples else None,
        )

    # ------------------------------------------------------------------------------------------- passes

    async def run_once(self, report: Report) -> None:
        """One pass.

        Raises:
            JournalFull: nothing can be noted for want of room.
            LinkError: the recorder is broken; the history must be opened again.
            StopRule: the journal or the index is damaged, or its disk fails.
            OSError: the replica cannot be changed; or the history was closed.
        """
        async with self._working():
            self._look_at_clock(report)
            await self.promise.keep_to_policy(self._held.clock.now_ns())
            await self.giving_up.drop_and_merge()
            await self.giving_up.sweep()
        await self.look(report)

    def pause_s(self) -> float:
        """Seconds to the next pass: an hour, or less when a day ends before, whose mark is to be chosen then."""
        floor_ns = self._held.clock.now_ns() - self._terms().policy.detailed_days * DAY_NS
        return min(PASS_S, (self._days.end_ns(self._days.of(floor_ns)) - floor_ns) / 1e9 + 1)

    async def make_some_room(self) -> bool:
        """Makes room for records, as `make_room`."""
        space = await self._held.journal.space()
        return await self.make_room(min(ROOM_BYTES, space.total_bytes // ROOM_SHARE))

    async def make_room(self, wanted_bytes: int, *, is_full: bool = True) -> bool:
        """Gives up one thing after the other until there is room, as far as lock and config allow. To be called where
        the recorder can come to rest. `is_full`: there was no room for a record, whatever the file system says is free
        (a quota is not in it), so something is given up at least.

        Returns: True when there is so much room, and the reserve again, or as much of it as is left free.
        Raises:
            StopRule, OSError: as `run_once`.
        """
        async with self._working():
            journal, now_ns = self._held.journal, self._held.clock.now_ns()
            before = await journal.space()
            await journal.use_reserve()
            await self.promise.keep_to_policy(now_ns)
            while True:
                await self.giving_up.drop_and_merge(on_full_disk=True)
                await journal.restore_reserve()
                space = await journal.space()
                has_more = space.free_bytes + space.reserve_bytes > before.free_bytes + before.reserve_bytes
                if space.free_bytes >= wanted_bytes and (has_more or not is_full):
                    return True
                if not self._terms().shortens or not await self.promise.shorten(now_ns):
                    return False

    async def make_room_for_index(self) -> None:
        """Before records are written: an index that finds no room must be opened again, so it gets some before.

        Raises:
            StopRule, OSError: as `run_once`.
        """
        space = await self._held.journal.space()
        wanted = min(ROOM_BYTES, space.total_bytes // ROOM_SHARE) // 2
        if space.free_bytes < wanted and self._terms().shortens:
            await self.make_room(wanted, is_full=False)

    async def to_trim(self, before: int) -> Trim:
        """What `trim` would give up. Changes nothing but the lock, which it sets as the config has it.

        Raises:
            Locked, InUse, StopRule, OSError: as `trim`.
        """
        async with self._working():
            return await self.promise.to_trim(before)

    async def trim(self, before: int) -> Trim:
        """Gives up every moment before the record, snapshots and tags left alone.

        Raises:
            Locked: the lock holds some of them.
            InUse: somebody reads one of them.
            JournalFull, LinkError, StopRule, OSError: as `run_once`.
        """
        async with self._working():
            trim = await self.promise.to_trim(before)
            await self.promise.trim(trim)
            await with_reserve(self._held.journal, self._held.journal.roll)
            await self.giving_up.drop_and_merge()
            await self.giving_up.sweep()
            return trim

    def _look_at_clock(self, report: Report) -> None:
        """Says once that the system clock is wrong, and again after it was right."""
        steady = self._held.clock.steady
        if steady.is_wrong and not self._clock_was_wrong:
            report(Code.TIME_STAMP, _clock_text(steady.behind_ns))
        self._clock_was_wrong = steady.is_wrong

    async def look(self, report: Report) -> None:
        """Takes a sample for the forecast, and reports a disk that is about to be full."""
        space = await self._held.journal.space()
        self.forecast.add(Used(self._held.clock.now_ns(), space.used_bytes), space.free_bytes)
        left_s = self.forecast.to_say()
        if left_s is not None:
            report(Code.CDP_FILLS_UP, _full_text(left_s))


def _breaks(error: Exception) -> bool:
    """True when nobody knows what the index says: it was changed in part, and must be opened again."""
    if isinstance(error, StopRule):
        return error.code is Code.CDP_INDEX_WRITE and not isinstance(error, JournalFull)
    return isinstance(error, sqlite3.Error)


def _clock_text(behind_ns: int) -> Bilingual:
    hours = abs(behind_ns) / 3600e9
    if behind_ns > 0:
        return bilingual(
            f"the system clock is {hours:.1f} h ahead of the time that has passed; history is kept by the latter",
            f"系统时钟比实际经过的时间快 {hours:.1f} 小时；历史数据按实际经过的时间保留",
        )
    return bilingual(
        f"the system clock is {hours:.1f} h behind the time that has passed; history is kept by the latter",
        f"系统时钟比实际经过的时间慢 {hours:.1f} 小时；历史数据按实际经过的时间保留",
    )


def _full_text(left_s: float) -> Bilingual:
    hours = max(math.floor(left_s / 3600), 1)
    return bilingual(f"the CDP disk is full in {hours} h", f"CDP 磁盘将在 {hours} 小时后写满")
