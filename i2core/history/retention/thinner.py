"""Gives up the past as it was promised: the runner that joins clock, policy, merging and sweeping.

One pass:

    clock ─▶ policy ─▶ marks, then the floor, noted in the journal ─▶ segments dropped and merged ─▶ store swept

A moment is struck from the note, durably, before anything of it is given up. So a crash at any point leaves a history
of which everything is there that the note promises, and the next pass goes on where this one ended.
"""

from __future__ import annotations

import errno
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Self, TypeVar

import attrs
import trio

from i2core.api import Code, StopRule
from i2core.api.journal import Journal, JournalFull, Segment
from i2core.config.model import CdpRetention, HistoryTerms, WhenHistoryFull
from i2core.config.words import Bilingual, bilingual
from i2core.history.retention.applied import Applied
from i2core.history.retention.choice import below, runs
from i2core.history.retention.forecast import Forecast
from i2core.history.retention.held import Held, turn
from i2core.history.retention.joint import Joint, Outcome
from i2core.history.retention.kept import Kept
from i2core.history.retention.objective import Objective, Used, objective
from i2core.history.retention.pins import Pins
from i2core.history.retention.policy import DAY_NS, Change, Days, is_free, retain, shorten
from i2core.history.retention.state import State
from i2core.history.retention.sweep import Sweep
from i2core.history.retention.trim import Locked, Trim

PASS_S = 3600.0
"""Seconds between two passes."""
SHORTER_NS = DAY_NS // 4
"""So much of the detailed history is given up at once on a full disk."""
SPARE_BYTES = 64 * 1024 * 1024
"""With less room than this, merging takes the reserve from the beginning: the index has none of its own."""
ROOM_BYTES = 32 * 1024 * 1024
"""So much room is made for records on a full disk, and half of it for the index before the disk is full: but no more
than a `ROOM_SHARE`th of the disk."""
ROOM_SHARE = 16
_SLICE_S = 0.05

Report = Callable[[Code, Bilingual], None]
_Drop = Callable[[Sequence[Segment], Kept, State], Awaitable[State | None]]
T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Terms:
    """What the config says of one history. May differ from pass to pass."""

    policy: CdpRetention
    """What was asked for, by the rule."""
    own: HistoryTerms = attrs.field(factory=HistoryTerms)
    """What this node decides."""

    @property
    def lock_ns(self) -> int:
        """Nobody gives up a moment before it is so old."""
        return round(self.own.lock_s * 1e9)

    @property
    def shortens(self) -> bool:
        """On a full disk the oldest is given up; else nothing is."""
        return self.own.when_full is WhenHistoryFull.SHORTEN


@attrs.frozen(kw_only=True)
class Keeping:
    """How the past of one history is given up."""

    terms: Callable[[], Terms]
    days: Days
    forecast: Forecast = attrs.field(factory=Forecast)
    """May be that of an earlier runner."""


class Thinner:
    """The runner of one history. Its methods may be called beside each other; one works at a time."""

    def __init__(self, held: Held, state: State, keeping: Keeping) -> None:
        self.state = state
        self.forecast = keeping.forecast
        self.outcome = Outcome()
        """Of the merges so far."""
        self._held, self._days, self._terms = held, keeping.days, keeping.terms
        self._joint = Joint(held)
        self._turn = trio.Lock()
        self._scope = trio.CancelScope()
        self._is_closed = False
        self._swept = -1
        self._clock_was_wrong = False

    @classmethod
    async def begin(cls, held: Held, keeping: Keeping) -> Self:
        """The runner of an open history, whose index agrees with its journal (`joint.agree`). A new history gets its
        note.

        Raises:
            StopRule: the note cannot be read or written.
        """
        note = held.journal.note
        if note:
            return cls(held, State.decode(note), keeping)
        first_ns = await turn(held, lambda: Applied(held.log()).planned_ns(1))
        state = State.begin(first_ns or held.clock.now_ns())
        await _with_reserve(held.journal, partial(held.journal.annotate, state.encode()))
        return cls(held, state, keeping)

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
        return self.state.kept(self._held.journal.marks)

    def objective(self) -> Objective:
        """What is promised, and what is kept."""
        kept = self.state.retained(self._held.journal.marks)
        return objective(self._terms().policy, kept, now_ns=self._held.clock.now_ns(), days=self._days)

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
            await self._decide(self._held.clock.now_ns())
            await self._give_up()
            await self._sweep()
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
            await self._decide(now_ns)
            while True:
                await self._give_up(on_full_disk=True)
                await journal.restore_reserve()
                space = await journal.space()
                has_more = space.free_bytes + space.reserve_bytes > before.free_bytes + before.reserve_bytes
                if space.free_bytes >= wanted_bytes and (has_more or not is_full):
                    return True
                if not self._terms().shortens or not await self._shorten(now_ns):
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
            return await self._to_trim(before)

    async def trim(self, before: int) -> Trim:
        """Gives up every moment before the record, snapshots and tags left alone.

        Raises:
            Locked: the lock holds some of them.
            InUse: somebody reads one of them.
            JournalFull, LinkError, StopRule, OSError: as `run_once`.
        """
        async with self._working():
            trim, now_ns = await self._to_trim(before), self._held.clock.now_ns()
            floor = trim.after.floor
            planned_ns = await self._asked(lambda applied: applied.planned_ns(floor)) or 0
            floor_ns = max(self.state.floor_ns, min(planned_ns, now_ns) if floor > self.state.floor else 0)
            await self._note(Change(floor_ns=floor_ns, remove=trim.gone), floor)
            await _with_reserve(self._held.journal, self._held.journal.roll)
            await self._give_up()
            await self._sweep()
            return trim

    async def _to_trim(self, before: int) -> Trim:
        now_ns, journal = self._held.clock.now_ns(), self._held.journal
        self.state = self._set_lock(now_ns)
        trim = Trim.of(min(before, self._held.durable.seq), self.state.floor, journal.marks, journal.segments)
        await self._check_lock(trim, now_ns)
        trim.check_unread(self._held.pins.moments)
        return trim

    async def _check_lock(self, trim: Trim, now_ns: int) -> None:
        free_ns = self.state.lock.free_before(now_ns)
        if free_ns is None or not trim.moments:
            return
        free = await self._seq_at(free_ns)
        held = [mark.next_seq - 1 for mark in trim.gone if not is_free(mark, self._days, free_ns)]
        if held or free < trim.after.floor > self.state.floor:
            raise Locked(min([free, *held]))

    # ------------------------------------------------------------------------------------------- deciding

    async def _decide(self, now_ns: int) -> None:
        """What the policy gives up now; noted."""
        self.state = self._set_lock(now_ns)
        marks, last = self._held.journal.marks, max(self._held.durable.seq, self.state.floor)
        decide = partial(
            retain,
            self._terms().policy,
            self.state.retained(marks),
            now_ns=now_ns,
            days=self._days,
            free_before_ns=self.state.lock.free_before(now_ns),
        )
        floor = self.state.floor
        change = await self._asked(
            lambda applied: decide(moment_at=lambda time_ns: applied.moment_at(time_ns, floor, last))
        )
        await self._note(change, await self._floor_of(change))

    def _set_lock(self, now_ns: int) -> State:
        return attrs.evolve(self.state, lock=self.state.lock.set(self._terms().lock_ns, now_ns))

    async def _shorten(self, now_ns: int) -> bool:
        """Notes the next thing to give up on a full disk; False: there is none."""
        change = shorten(
            self.state.retained(self._held.journal.marks),
            now_ns=now_ns,
            step_ns=SHORTER_NS,
            days=self._days,
            free_before_ns=self.state.lock.free_before(now_ns),
        )
        if change is None:
            return False
        await self._note(change, await self._floor_of(change))
        return True

    async def _note(self, change: Change, floor: int) -> None:
        """Makes durable what is kept from now on: new marks first, for their moments are still there; nothing is given
        up before all of it is noted."""
        journal = self._held.journal
        if change.add or change.remove:
            await _with_reserve(journal, partial(journal.mark, change.add, change.remove))
        state = attrs.evolve(self.state, floor_ns=change.floor_ns, floor=max(floor, self.state.floor))
        await _with_reserve(journal, partial(journal.annotate, state.encode()))
        self.state = state

    async def _floor_of(self, change: Change) -> int:
        return self.state.floor if change.floor_ns <= self.state.floor_ns else await self._seq_at(change.floor_ns)

    async def _seq_at(self, time_ns: int) -> int:
        """The last durable moment at a time of the steady clock, or before it; never below the floor."""
        floor, last = self.state.floor, max(self._held.durable.seq, self.state.floor)
        return await self._asked(lambda applied: applied.moment_at(time_ns, floor, last).seq)

    async def _asked(self, question: Callable[[Applied], T]) -> T:
        return await turn(self._held, lambda: question(Applied(self._held.log())))

    # ------------------------------------------------------------------------------------------- giving up

    async def _give_up(self, *, on_full_disk: bool = False) -> None:
        """Drops and merges, until there is nothing left to do, or no room to do it in."""
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
        begun_ns = await self._asked(lambda applied: applied.planned_ns(last.first_seq))
        if last.first_seq <= self.state.floor or self._held.clock.now_ns() - (begun_ns or 0) >= DAY_NS:
            await _with_reserve(self._held.journal, self._held.journal.roll)

    def _needed(self) -> Kept:
        """What may not be given up: the kept moments, and those that somebody reads."""
        return self.state.kept(self._held.journal.marks, self._held.pins.moments)

    async def _drop(self, drop: _Drop) -> bool:
        kept = self._needed()
        run = below(self._held.journal.segments, kept.oldest)
        while run:
            try:
                state = await drop(run, kept, self.state)
            except JournalFull:
                state = await self._joint.drop_only(run, kept, self.state)
            if state is not None:
                self.state = state
                return True
            run.pop()
        return False

    async def _merge(self) -> bool:
        """One merge, the oldest that is due and fits."""
        kept, space = self._needed(), await self._held.journal.space()
        if space.free_bytes < SPARE_BYTES:
            await self._held.journal.use_reserve()
        room = space.free_bytes + space.reserve_bytes
        for run in runs(self._held.journal.segments, kept, room):
            try:
                self.state = await self._joint.merge(run, kept, self.state, self.outcome)
            except JournalFull:
                continue
            return True
        return False

    # ------------------------------------------------------------------------------------------- the store

    async def _sweep(self) -> None:
        """Removes from the store what no row names any more; only after something was given up."""
        if self._swept == self.state.generation:
            return
        steps = Sweep(self._held.index, self._held.replica, self._needed()).run()
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
        self._swept = self.state.generation

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


async def _with_reserve(journal: Journal, work: Callable[[], Awaitable[None]]) -> None:
    """Changes the journal; on a full disk with the room of the reserve."""
    try:
        await work()
    except JournalFull:
        await journal.use_reserve()
        await work()


def _breaks(error: Exception) -> bool:
    """True when nobody knows what the index says: it was changed in part, and must be opened again."""
    if isinstance(error, StopRule):
        return error.code is Code.CDP_INDEX_WRITE and not isinstance(error, JournalFull)
    return isinstance(error, sqlite3.Error)


def _slice(steps: Iterator[None]) -> bool:
    """Goes on with the sweep for a while; False: it has ended."""
    end = time.perf_counter() + _SLICE_S
    return any(time.perf_counter() > end for _ in steps)


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
