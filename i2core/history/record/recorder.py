"""Applies records to a replica that has a history: plans them, makes durable what they destroy, and has the sink carry
them out.

    plan ──▶ journal ──▶ index ──▶ sink.apply ──▶ settle       one plan after the other
      ▲                                │
      └── the rest, planned again ◀────┴── a record failed, or the plan broke off

Cancelled or stopped at any place, replica, index and journal agree again before the error goes on. Where that does not
succeed the recorder is broken: it does nothing more, and what is not durable is undone when the history is opened
again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Protocol, TypeVar

import attrs
import trio

from i2core.api import Applied, Batch, Code, Failure, I2Error, Kind, Line, LinkError, Place, Record, Sink, StopRule
from i2core.api.journal import JournalFull
from i2core.api.present import STORE, Identity, Present
from i2core.history.index.index import Index
from i2core.history.journal.packing import Packed
from i2core.history.model.rows import CatalogChange, Left, Object
from i2core.history.plan.plan import Plan, Planner
from i2core.history.plan.step import Change, Restore, Step
from i2core.history.plan.view import ForeignChange, MustWait
from i2core.history.read.paths import PathsAt
from i2core.history.read.places import ObjectLost, Places
from i2core.history.record.durable import Durable
from i2core.history.record.writing import FrameWriter, Written
from i2core.history.recovery.failed import correct_catalog
from i2core.posix.errnos import PASSING
from i2core.posix.patience import patiently

T = TypeVar("T")
Carry = Callable[[int, Sequence[Step]], Awaitable[Applied]]
"""Carries out planned records that begin with this number, as `Sink.apply` with `Batch.keeps` does."""
_STAGING = frozenset({Kind.STAGE, Kind.PUBLISH})


@attrs.define
class _Carried:
    """How far a plan is carried out."""

    steps: int = 0
    """Records that the sink is done with, whether or not they failed."""
    failures: list[Failure] = attrs.field(factory=list)
    made: dict[int, Identity] = attrs.field(factory=dict)
    """Objects that were made, by the number in the history of the record that made them."""
    ended: bool = False
    """The plan ends here: the last of these records failed, or the next one is blocked."""
    in_doubt: bool = False
    """The last of these records may be carried out in part."""
    blocked: bool = False


class Room(Protocol):
    """Who gives up something of the past on a full disk."""

    async def make_some_room(self) -> bool:
        """As `Thinner.make_some_room`."""

    async def make_room_for_index(self) -> None:
        """As `Thinner.make_room_for_index`."""


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
        self._writer, self._planner, self._index, self._present = writer, planner, index, present
        self._say = say
        self._extra: list[CatalogChange] = []
        """Identities of objects that are in no frame yet."""
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
            if self._extra:
                await self._write(self._nothing)
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

    async def _carry_some(self, carry: Carry, first_seq: int, records: Sequence[Record | Restore]) -> _Carried:
        """Plans as many of the records as can be planned at once, and carries them out."""
        async with self._turn:
            self._check()
            return await self._planned(carry, first_seq, records)

    async def _planned(self, carry: Carry, first_seq: int, records: Sequence[Record | Restore]) -> _Carried:
        try:
            written = await self._write(partial(self._plan, records))
        except ForeignChange as change:
            with trio.CancelScope(shield=True):
                return _Carried(failures=[await self._leave_out(change, first_seq, records[0])])
        carried = _Carried()
        try:
            await self._carry_out(carry, written.plan, first_seq, carried)
        except BaseException:
            # What the sink has not reported, it may have begun.
            carried.steps = min(max(carried.steps, self._reported - first_seq + 1) + 1, len(written.plan.steps))
            carried.ended = carried.in_doubt = True
            await self._settle(written, carried)
            raise
        await self._settle(written, carried)
        return carried

    async def _carry_out(self, carry: Carry, plan: Plan, first_seq: int, carried: _Carried) -> None:
        steps = plan.steps
        self._reported = first_seq - 1
        while carried.steps < len(steps) and not carried.ended:
            begin = first_seq + carried.steps
            done = await carry(begin, steps[carried.steps :])
            carried.steps = done.applied_seq + 1 - first_seq
            carried.failures += done.failures
            carried.made |= {seq + plan.first_seq - first_seq: made for seq, made in done.made.items()}
            carried.blocked = done.blocked
            carried.in_doubt = bool(done.failures) and not _plans_nothing(steps[carried.steps - 1])
            carried.ended = carried.blocked or carried.in_doubt
            assert carried.ended or done.applied_seq >= begin, "nothing was carried out"

    # ------------------------------------------------------------------------------------------- before the sink

    async def _write(self, make: Callable[[], Plan]) -> Written:
        """A plan gets into journal and index, with what is known of the objects of earlier ones.

        Raises:
            ForeignChange: as `Planner.plan`. Nothing is written then.
            StopRule, LinkError: as `apply`; nothing is written either, unless the recorder is broken.
        """
        extra, self._extra = self._extra, []
        try:
            written, frames, frame = await self._patiently(partial(self._begin, make, extra))
        except BaseException as error:
            self._extra = [*extra, *self._extra]
            if isinstance(error, OSError):
                raise _unread(error) from error
            raise
        with trio.CancelScope(shield=True):
            try:
                await self._writer.write(written, frames, frame)
            except BaseException as error:
                with self._breaking():
                    await self._withdraw(written)
                if isinstance(error, OSError):
                    raise _unread(error) from error
                raise
        return written

    async def _patiently(self, work: Callable[[], T]) -> T:
        return await patiently(partial(self._writer.in_turn, work), self._say, lambda: "the history of the replica")

    def _begin(self, make: Callable[[], Plan], extra: list[CatalogChange]) -> tuple[Written, Iterator[Packed], Packed]:
        try:
            return self._writer.begin(make(), extra)
        except BaseException:
            self._planner.forget()
            raise

    def _plan(self, records: Sequence[Record | Restore]) -> Plan:
        changes = list(self._changes(records))
        try:
            plan = self._planner.plan(self.seq + 1, changes)
        except MustWait:  # for what stands on the replica otherwise than was planned: ask the replica alone
            self._planner.forget()
            plan = self._planner.plan(self.seq + 1, changes)
        assert plan.steps
        return plan

    def _changes(self, records: Sequence[Record | Restore]) -> Iterator[Change]:
        """The records with their times, which never go back. One without a time is as old as the one before it."""
        time_ns = self._writer.end.last_ns or self._writer.now_ns()
        for record in records:
            time_ns = max(time_ns, record.time_ns)
            yield Change(record, time_ns)

    def _nothing(self) -> Plan:
        return Plan(self.seq + 1, ())

    async def _leave_out(self, change: ForeignChange, first_seq: int, record: Record | Restore) -> Failure:
        """Somebody else has changed the replica: the history forgets what it knew of the name. The failure says which
        place is to be compared."""
        found = await self._writer.turn(partial(self._place_of, change))
        place = found or Place(record.root, record.path)
        left = Left(change.parent, change.name)
        if left not in self._extra:  # it is, where there was no room for it
            self._extra.append(left)
        await self._write(self._nothing)
        shown = os.fsdecode(place.path)
        cause = f"{shown!r}: another program changed the replica, and its history lacks that change; it is compared"
        self._say(Line(cause, code=Code.HISTORY_GAP, obj=shown, cause=cause))
        return Failure(first_seq, place, Code.HISTORY_GAP, cause, repair=True)

    def _place_of(self, change: ForeignChange) -> Place | None:
        found = PathsAt(self._index, self.seq).of_name(change.parent, change.name)
        return found and Place(*found)

    # ------------------------------------------------------------------------------------------- after the sink

    async def _settle(self, written: Written, carried: _Carried) -> None:
        """Index and journal follow what was carried out."""
        last_seq = written.plan.first_seq + carried.steps - 1
        with trio.CancelScope(shield=True), self._breaking():
            if not carried.steps:
                await self._withdraw(written)
                return
            if carried.ended:
                corrections = await self._writer.turn(partial(self._cut_short, written, carried, last_seq))
                await self._writer.shorten(written, last_seq, corrections)
            await self._writer.turn(partial(self._note, written.plan, carried, last_seq))
            self.seq = last_seq

    def _cut_short(self, written: Written, carried: _Carried, last_seq: int) -> list[CatalogChange]:
        """The index takes back the later records; what the catalog says otherwise than was planned. The record in doubt
        may be about an object that one before it has made."""
        self._writer.give_up(written, last_seq)
        *before, last = written.plan.steps[: carried.steps]
        with self._places() as places:
            self._identify(before, carried, places, last)
            return correct_catalog(self._index.catalog, places, last) if carried.in_doubt else []

    def _note(self, plan: Plan, carried: _Carried, last_seq: int) -> None:
        """New objects are known; the planner goes on from here."""
        steps = plan.steps[: carried.steps]
        with self._places() as places:
            self._identify(steps[-1:] if carried.ended else steps, carried, places, steps[-1])
        self._planner.applied(last_seq)
        if carried.ended:
            self._planner.forget()

    def _identify(self, steps: Sequence[Step], carried: _Carried, places: Places, last: Step) -> None:
        for step in steps:
            identity = carried.made.get(step.seq) or self._look_up(step, places, last)
            if identity is not None and step.oid:
                self._index.catalog.identify(step.oid, identity)
                self._extra.append(Object(step.oid, self._index.catalog.born(step.oid), identity))

    @contextmanager
    def _places(self) -> Iterator[Places]:
        places = Places(self._index, self._present)
        try:
            yield places
        finally:
            places.close()

    def _look_up(self, step: Step, places: Places, last: Step) -> Identity | None:
        """Which object the record has made, where the sink broke off before it told; None: none, or it is gone.

        Nobody knows whether `last` was carried out. So the object is sought where it is kept, then where it was before
        that record, and only then where that record brings it: another object may have that name still."""
        if not step.oid or not (step.made or step.op == Kind.PUBLISH):
            return None
        known = self._index.catalog.identity(step.oid)
        if known is not None:
            return known
        before = [(row.parent, row.name) for row in last.names if row.oid == step.oid]
        for parent, name in [(STORE, b"%d" % step.oid), *before, *self._index.catalog.homes(step.oid)]:
            try:
                handle = self._present.child(places.find(parent), name)
            except ObjectLost:
                continue
            if handle is not None:
                return self._present.facts(places.keep(handle)).identity
        return None

    async def _withdraw(self, written: Written) -> None:
        """Nothing of the plan is carried out: it never was."""
        self._extra = [*written.extra, *self._extra]
        await self._writer.turn(partial(self._writer.give_up, written, written.plan.first_seq - 1))
        await self._writer.withdraw(written)
        await self._writer.turn(self._planner.forget)

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """An error within the block is one after which nobody knows what the index says."""
        try:
            yield
        except BaseException as error:
            self.broken = error
            raise


async def _by_sink(sink: Sink, first_seq: int, steps: Sequence[Step]) -> Applied:
    return await sink.apply(Batch(first_seq, [_sent(step) for step in steps], [step.keeps for step in steps]))


def _sent(step: Step) -> Record:
    assert isinstance(step.record, Record)
    return step.record


def _plans_nothing(step: Step) -> bool:
    """True when the plan has the record do nothing: that it failed is as planned."""
    record = step.record
    staging = not isinstance(record, Record) or record.staged or record.kind in _STAGING
    return not (staging or step.loses or step.catalog or step.touched)


def _unread(error: OSError) -> I2Error:
    cause = f"cannot read the replica for its history: {error.strerror}"
    if error.errno in PASSING:
        return LinkError(cause)
    return StopRule(cause, code=Code.OPEN_REPLICA)
