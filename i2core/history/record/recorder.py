"""Applies records to a replica that has a history: plans them, makes durable what they destroy, and has the sink carry
them out.

    plan ──▶ journal ──▶ index ──▶ sink.apply ──▶ settle       one plan after the other
      ▲                                │
      └── the rest, planned again ◀────┴── a record failed, or the plan broke off

While the sink carries out one part of many records, the next one is planned and gets into the journal. What it destroys
of that which the sink is just about to write comes from the records.

What comes before the sink is in `planning`, and what comes after it in `settling`. Cancelled or stopped at any place,
replica, index and journal agree again before the error goes on. Where that does not succeed the recorder is broken: it
does nothing more, and what is not durable is undone when the history is opened again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

import attrs
import trio

from i2core.api import Applied, Batch, Failure, LinkError, Record, Sink
from i2core.api.journal import JournalFull
from i2core.api.present import Present
from i2core.history.index.index import Index
from i2core.history.plan.plan import Plan, Planner
from i2core.history.plan.step import Restore, Step
from i2core.history.plan.view import ForeignChange
from i2core.history.record.durable import Durable
from i2core.history.record.planning import Planning, unread
from i2core.history.record.settling import Carried, Settling
from i2core.history.record.writing import FrameWriter, Written
from i2core.tasks import meanwhile

T = TypeVar("T")
Carry = Callable[[int, Sequence[Step]], Awaitable[Applied]]
"""Carries out planned records that begin with this number, as `Sink.apply` with `Batch.keeps` does."""


PART_BYTES, PART_RECORDS = 4 * 1024 * 1024, 256
"""What is planned at once: about so much content, and at most so many records. Each part costs a sync of the journal,
which is hidden only while the part before takes longer."""


class Room(Protocol):
    """Who gives up something of the past on a full disk."""

    async def make_some_room(self) -> bool:
        """As `Thinner.make_some_room`."""

    async def make_room_for_index(self) -> None:
        """As `Thinner.make_room_for_index`."""


@attrs.define
class _Ahead:
    """What is written while the plan before it is carried out."""

    written: Written | None = None


class Recorder:
    """Changes one replica. Whoever calls it is the only one who does; `at_rest` may be called beside."""

    def __init__(
        self,
        writer: FrameWriter,
        planner: Planner,
        index: Index,
        present: Present,
        *,
        seq: int,
        say: Callable[[str], None],
    ) -> None:
        """`seq`: the last record that is carried out."""
        self._writer, self._planner = writer, planner
        self._settling = Settling(writer, planner, index, present)
        self._planning = Planning(writer, planner, index, self._settling, self._breaking, say)
        self._turn = trio.Lock()
        self._reported = 0
        self.seq = seq
        """The last record that is carried out, by the history's own count."""
        self.broken: BaseException | None = None
        """Why nothing more is recorded; None: all is well."""
        self.room: Room | None = None
        """Who is asked on a full disk; None: it stops the rule at once."""

    def reported(self, seq: int) -> None:
        """For `SinkContext.applied`: the sink is done with this record, by the number that the sink was given."""
        self._reported = seq

    async def apply(self, sink: Sink, first_seq: int, records: Sequence[Record]) -> Applied:
        """As `Sink.apply`. The numbers from `first_seq` on are those that failures have; the history has its own.

        Cancellation: the batch may be applied in part; what is applied is recorded.

        Raises:
            StopRule: as `Sink.apply`; or journal or index cannot be written.
            LinkError: the history must be opened again.
        """
        return await self.carry(partial(_by_sink, sink), first_seq, records)

    async def carry(self, carry: Carry, first_seq: int, records: Sequence[Record | Restore]) -> Applied:
        """As `apply`, with records of the history's own as well, by whoever can carry them out.

        Cancellation, Raises: as `apply`.
        """
        failures: list[Failure] = []
        done = 0
        if self.room is not None:
            await self.room.make_room_for_index()
        while done < len(records):
            carried = await self._with_room(partial(self._carry_some, carry, first_seq + done, records[done:]))
            done += carried.steps
            failures += carried.failures
            if carried.blocked:
                return Applied(first_seq + done - 1, tuple(failures), blocked=True)
        return Applied(first_seq + len(records) - 1, tuple(failures))

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[Durable]:
        """Within the block no record is planned and not carried out. Gives the position that is durable once the sink
        was flushed: all that it needs is in the journal.

        Raises:
            StopRule: the journal cannot be written.
            LinkError: the history must be opened again.
        """
        async with self._turn:
            self._check()
            await self._planning.write_owed(self.seq)
            yield Durable(self.seq, self._writer.end.tip, self._writer.end.reach)

    @asynccontextmanager
    async def certain(self) -> AsyncIterator[Durable]:
        """As `at_rest`. On a full disk room is made, so whoever makes room calls `at_rest` itself."""
        async with AsyncExitStack() as stack:
            yield await self._with_room(lambda: stack.enter_async_context(self.at_rest()))

    async def _with_room(self, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`. Where the journal has no room for it, nothing was changed: it is done again once there
        is some."""
        while True:
            try:
                return await work()
            except JournalFull:
                if self.room is None or self.broken is not None or not await self.room.make_some_room():
                    raise

    def _check(self) -> None:
        if self.broken is not None:
            raise LinkError("the history of the replica must be opened again") from self.broken

    def close(self) -> None:
        """Nothing more is recorded; objects that are open for planning are closed."""
        self._planner.forget()

    # ------------------------------------------------------------------------------------------- one plan

    async def _carry_some(self, carry: Carry, first_seq: int, records: Sequence[Record | Restore]) -> Carried:
        """Plans as many of the records as can be planned, and carries them out, part by part."""
        async with self._turn:
            self._check()
            try:
                ahead: Written | None = await self._planning.write(self.seq + 1, _part(records))
            except ForeignChange as change:
                with trio.CancelScope(shield=True):
                    return Carried(failures=[await self._planning.leave_out(change, self.seq, first_seq, records[0])])
            done = Carried()
            while ahead is not None:
                rest = records[done.steps + len(ahead.plan.steps) :]
                carried, ahead = await self._carry_part(carry, first_seq + done.steps, ahead, rest)
                done.add(carried)
            return done

    async def _carry_part(
        self, carry: Carry, first_seq: int, written: Written, rest: Sequence[Record | Restore]
    ) -> tuple[Carried, Written | None]:
        """Carries out one plan. Returns as well the plan of what follows, if that is written already."""
        carried, ahead = Carried(), _Ahead()
        try:
            async with meanwhile(partial(self._write_ahead, ahead, written.plan.last_seq + 1, rest)):
                await self._carry_out(carry, written.plan, first_seq, carried)
        except BaseException:
            carried.break_off(self._reported - first_seq + 1, written.plan)
            await self._settle(written, carried, ahead)
            raise
        await self._settle(written, carried, ahead)
        return carried, None if carried.ended else ahead.written

    async def _write_ahead(self, ahead: _Ahead, seq: int, records: Sequence[Record | Restore]) -> None:
        """The next part gets into journal and index, unless it has to wait. An error comes again when the part is
        planned after this one."""
        if records:
            with suppress(Exception):
                ahead.written = await self._planning.write_ahead(seq, _part(records))

    async def _carry_out(self, carry: Carry, plan: Plan, first_seq: int, carried: Carried) -> None:
        steps = plan.steps
        self._reported = first_seq - 1
        while carried.steps < len(steps) and not carried.ended:
            begin = first_seq + carried.steps
            done = await carry(begin, steps[carried.steps :])
            carried.go_on(done, first_seq, plan)
            assert carried.ended or done.applied_seq >= begin, "nothing was carried out"

    async def _settle(self, written: Written, carried: Carried, ahead: _Ahead) -> None:
        self._check()  # of what was to be written meanwhile, something may be left
        with trio.CancelScope(shield=True), self._breaking():
            self.seq = await self._settling.settle(written, carried, ahead.written)

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """An error within the block is one after which nobody knows what the index says.

        Raises:
            StopRule, LinkError: the replica cannot be read.
        """
        try:
            yield
        except BaseException as error:
            self.broken = error
            if isinstance(error, OSError):
                raise unread(error) from error
            raise


def _part(records: Sequence[Record | Restore]) -> Sequence[Record | Restore]:
    """The first of them, as many as are planned at once."""
    size = 0
    for count, record in enumerate(records):
        if size >= PART_BYTES or count == PART_RECORDS:
            return records[:count]
        size += len(record.data) if isinstance(record, Record) else 0
    return records


async def _by_sink(sink: Sink, first_seq: int, steps: Sequence[Step]) -> Applied:
    return await sink.apply(Batch(first_seq, [_sent(step) for step in steps], [step.keeps for step in steps]))


def _sent(step: Step) -> Record:
    assert isinstance(step.record, Record)
    return step.record
