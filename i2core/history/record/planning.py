"""Before records are carried out: their plan gets into journal and index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

import trio

from i2core.api import Code, Failure, I2Error, Line, LinkError, Place, Record, StopRule
from i2core.history.index.index import Index
from i2core.history.journal.packing import Packed
from i2core.history.model.rows import Left
from i2core.history.plan.plan import Plan, Planner
from i2core.history.plan.step import Change, Restore
from i2core.history.plan.view import ForeignChange, MustWait
from i2core.history.read.paths import PathsAt
from i2core.history.record.settling import Settling
from i2core.history.record.writing import FrameWriter, Written
from i2core.posix.errnos import PASSING
from i2core.posix.patience import patiently

T = TypeVar("T")


class Planning:
    """Of one history. Within a turn of its recorder."""

    def __init__(
        self,
        writer: FrameWriter,
        planner: Planner,
        index: Index,
        settling: Settling,
        breaking: Callable[[], AbstractContextManager[None]],
        say: Callable[[str], None],
    ) -> None:
        """`breaking`: an error within is one after which nobody knows what the index says."""
        self._writer, self._planner, self._index, self._settling = writer, planner, index, settling
        self._breaking, self._say = breaking, say

    async def write(self, first_seq: int, records: Sequence[Record | Restore]) -> Written:
        """The plan of these records, or of as many as can be planned now, is in journal and index.

        Raises:
            ForeignChange: as `Planner.plan`. Nothing is written then.
            StopRule, LinkError: as `Recorder.apply`; nothing is written either, unless the recorder is broken.
        """
        return await self._write(partial(self._plan, first_seq, records))

    async def write_ahead(self, first_seq: int, records: Sequence[Record | Restore]) -> Written | None:
        """As `write`, while the plan before is carried out. None: these records have to wait for it. A passing lack is
        not waited for: it may be of descriptors that the other plan has.

        Raises:
            OSError: the replica cannot be read.
            StopRule, LinkError: as `write`.
        """
        begun = await self._writer.turn(partial(self._begin, partial(self._plan_ahead, first_seq, records)))
        return None if begun is None else await self._finish(*begun)

    async def write_owed(self, seq: int) -> None:
        """What is known of the objects of earlier plans is in the journal. `seq`: the last record that was planned.

        Raises:
            StopRule, LinkError: as `write`.
        """
        if self._writer.owed:
            await self._write(lambda: Plan(seq + 1, ()))

    async def _write(self, make: Callable[[], Plan]) -> Written:
        try:
            begun = await self._patiently(partial(self._begin, make))
        except OSError as error:
            raise unread(error) from error
        assert begun is not None
        return await self._finish(*begun)

    async def _finish(self, written: Written, frames: Iterator[Packed], frame: Packed) -> Written:
        with trio.CancelScope(shield=True):
            try:
                await self._writer.write(written, frames, frame)
            except BaseException as error:
                with self._breaking():
                    await self._settling.withdraw(written)
                if isinstance(error, OSError):
                    raise unread(error) from error
                raise
        return written

    async def _patiently(self, work: Callable[[], T]) -> T:
        return await patiently(partial(self._writer.in_turn, work), self._say, lambda: "the history of the replica")

    def _begin(self, make: Callable[[], Plan | None]) -> tuple[Written, Iterator[Packed], Packed] | None:
        try:
            plan = make()
            return None if plan is None else self._writer.begin(plan)
        except BaseException:
            self._planner.forget()
            raise

    def _plan(self, first_seq: int, records: Sequence[Record | Restore]) -> Plan:
        changes = list(self._changes(records))
        try:
            plan = self._planner.plan(first_seq, changes)
        except MustWait:  # for what stands on the replica otherwise than was planned: ask the replica alone
            self._planner.forget()
            plan = self._planner.plan(first_seq, changes)
        assert plan.steps
        return plan

    def _plan_ahead(self, first_seq: int, records: Sequence[Record | Restore]) -> Plan | None:
        plan = self._planner.plan(first_seq, list(self._changes(records)))
        return plan if plan.steps else None

    def _changes(self, records: Sequence[Record | Restore]) -> Iterator[Change]:
        """The records with their times, which never go back. One without a time is as old as the one before it."""
        time_ns = self._writer.end.last_ns or self._writer.now_ns()
        for record in records:
            time_ns = max(time_ns, record.time_ns)
            yield Change(record, time_ns)

    async def leave_out(self, change: ForeignChange, seq: int, number: int, record: Record | Restore) -> Failure:
        """Somebody else has changed the replica: the history forgets what it knew of the name. The failure of the
        record, which has that number for the sink, says which place is to be compared. `seq`: as in `write_owed`.

        Raises:
            StopRule, LinkError: as `write`.
        """
        found = await self._writer.turn(partial(self._place_of, change, seq))
        place = found or Place(record.root, record.path)
        left = Left(change.parent, change.name)
        if left not in self._writer.owed:  # it is, where there was no room for it
            self._writer.owed.append(left)
        await self.write_owed(seq)
        shown = os.fsdecode(place.path)
        cause = f"{shown!r}: another program changed the replica, and its history lacks that change; it is compared"
        self._say(Line(cause, code=Code.HISTORY_GAP, obj=shown, cause=cause))
        return Failure(number, place, Code.HISTORY_GAP, cause, repair=True)

    def _place_of(self, change: ForeignChange, seq: int) -> Place | None:
        found = PathsAt(self._index, seq).of_name(change.parent, change.name)
        return found and Place(*found)


def unread(error: OSError) -> I2Error:
    """What is raised when the replica cannot be read."""
    cause = f"cannot read the replica for its history: {error.strerror}"
    if error.errno in PASSING:
        return LinkError(cause)
    return StopRule(cause, code=Code.OPEN_REPLICA)
