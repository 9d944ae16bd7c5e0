"""Which moments of one history are kept, and the decisions to keep fewer of them.

A moment is struck from the note, durably, before anything of it is given up (`giving_up`). So a crash at any point
leaves a history of which everything is there that the note promises.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self, TypeVar

import attrs

from i2core.history.retention.applied import Applied
from i2core.history.retention.held import Held, turn
from i2core.history.retention.kept import Kept
from i2core.history.retention.objective import Objective, objective
from i2core.history.retention.policy import DAY_NS, Change, is_free, retain, shorten
from i2core.history.retention.reserve import with_reserve
from i2core.history.retention.state import State
from i2core.history.retention.terms import Keeping
from i2core.history.retention.trim import Locked, Trim

SHORTER_NS = DAY_NS // 4
"""So much of the detailed history is given up at once on a full disk."""
T = TypeVar("T")


class Promise:
    """What the note of the journal and its marks say. One call at a time."""

    def __init__(self, held: Held, state: State, keeping: Keeping) -> None:
        self.state = state
        """As it is noted in the journal, but for the lock, which the next note has."""
        self._held, self._days, self._terms = held, keeping.days, keeping.terms

    @classmethod
    async def begin(cls, held: Held, keeping: Keeping) -> Self:
        """What an open history promises. A new one gets its note.

        Raises:
            StopRule: the note cannot be read or written.
        """
        note = held.journal.note
        if note:
            return cls(held, State.decode(note), keeping)
        first_ns = await turn(held, lambda: Applied(held.log()).planned_ns(1))
        state = State.begin(first_ns or held.clock.now_ns())
        await with_reserve(held.journal, partial(held.journal.annotate, state.encode()))
        return cls(held, state, keeping)

    @property
    def kept(self) -> Kept:
        """Which moments can be had, also after a restart."""
        return self.state.kept(self._held.journal.marks)

    @property
    def needed(self) -> Kept:
        """What may not be given up: the kept moments, and those that somebody reads."""
        return self.state.kept(self._held.journal.marks, self._held.pins.moments)

    def objective(self) -> Objective:
        """What is promised, and what is kept."""
        kept = self.state.retained(self._held.journal.marks)
        return objective(self._terms().policy, kept, now_ns=self._held.clock.now_ns(), days=self._days)

    # ------------------------------------------------------------------------------------------- by the policy

    async def keep_to_policy(self, now_ns: int) -> None:
        """Notes what the policy gives up now.

        Raises:
            StopRule: it cannot be noted.
        """
        self._set_lock(now_ns)
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
        change = await self.asked(
            lambda applied: decide(moment_at=lambda time_ns: applied.moment_at(time_ns, floor, last))
        )
        await self._note(change, await self._floor_of(change))

    async def shorten(self, now_ns: int) -> bool:
        """Notes the next thing to give up on a full disk; False: there is none.

        Raises:
            StopRule: it cannot be noted.
        """
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

    # ------------------------------------------------------------------------------------------- by hand

    async def to_trim(self, before: int) -> Trim:
        """What `trim` would give up with every moment before this record. Sets the lock as the config has it.

        Raises:
            Locked: the lock holds some of them.
            InUse: somebody reads one of them.
        """
        now_ns, journal = self._held.clock.now_ns(), self._held.journal
        self._set_lock(now_ns)
        trim = Trim.of(min(before, self._held.durable.seq), self.state.floor, journal.marks, journal.segments)
        await self._check_lock(trim, now_ns)
        trim.check_unread(self._held.pins.moments)
        return trim

    async def trim(self, trim: Trim) -> None:
        """Notes it.

        Raises:
            StopRule: it cannot be noted.
        """
        floor, now_ns = trim.after.floor, self._held.clock.now_ns()
        planned_ns = await self.asked(lambda applied: applied.planned_ns(floor)) or 0
        floor_ns = max(self.state.floor_ns, min(planned_ns, now_ns) if floor > self.state.floor else 0)
        await self._note(Change(floor_ns=floor_ns, remove=trim.gone), floor)

    async def _check_lock(self, trim: Trim, now_ns: int) -> None:
        free_ns = self.state.lock.free_before(now_ns)
        if free_ns is None or not trim.moments:
            return
        free = await self._seq_at(free_ns)
        held = [mark.next_seq - 1 for mark in trim.gone if not is_free(mark, self._days, free_ns)]
        if held or free < trim.after.floor > self.state.floor:
            raise Locked(min([free, *held]))

    # ------------------------------------------------------------------------------------------- noting

    def _set_lock(self, now_ns: int) -> None:
        self.state = attrs.evolve(self.state, lock=self.state.lock.set(self._terms().lock_ns, now_ns))

    async def _note(self, change: Change, floor: int) -> None:
        """Makes durable what is kept from now on: new marks first, for their moments are still there; nothing is given
        up before all of it is noted."""
        journal = self._held.journal
        if change.add or change.remove:
            await with_reserve(journal, partial(journal.mark, change.add, change.remove))
        state = attrs.evolve(self.state, floor_ns=change.floor_ns, floor=max(floor, self.state.floor))
        await with_reserve(journal, partial(journal.annotate, state.encode()))
        self.state = state

    async def _floor_of(self, change: Change) -> int:
        return self.state.floor if change.floor_ns <= self.state.floor_ns else await self._seq_at(change.floor_ns)

    async def _seq_at(self, time_ns: int) -> int:
        """The last durable moment at a time of the steady clock, or before it; never below the floor."""
        floor, last = self.state.floor, max(self._held.durable.seq, self.state.floor)
        return await self.asked(lambda applied: applied.moment_at(time_ns, floor, last).seq)

    async def asked(self, question: Callable[[Applied], T]) -> T:
        """The answer to a question about when records were planned."""
        return await turn(self._held, lambda: question(Applied(self._held.log())))
