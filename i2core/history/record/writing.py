"""Frames of plans go into journal and index, and are cut short when a plan was not carried out as a whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import attrs

from i2core.api import Code, StopRule, in_thread
from i2core.api.journal import Draft, Frame, Header, Journal, Placed, Position, Tip
from i2core.api.present import STORE, Present
from i2core.history.index.index import Index
from i2core.history.journal.frame import unpacked
from i2core.history.journal.packing import Packed, packed, shortened
from i2core.history.model.rows import CatalogChange, Object
from i2core.history.plan.enrol import enrol
from i2core.history.plan.plan import Plan
from i2core.history.record.clock import HistoryClock
from i2core.history.record.turns import Turns

T = TypeVar("T")


class End(NamedTuple):
    """The last frame of the history that is written, and where it ends."""

    tip: Tip = Tip()
    reach: Position = Position(0, 0)
    last_ns: int = 0
    """The time of the last change in it, by the work node's clock."""


@attrs.define
class Written:
    """A plan that is in the journal."""

    plan: Plan
    before: End
    """What was the last frame then."""
    extra: Sequence[CatalogChange]
    """What was owed then."""
    frames: list[Placed] = attrs.field(factory=list)
    """The last one has its records; those before it have old bytes for which it had no room."""
    payload: bytes = b""
    """Of the last one."""


class FrameWriter:
    """Writes the frames of one history. One call at a time; index and planner are used within a turn alone."""

    def __init__(
        self,
        journal: Journal,
        index: Index,
        present: Present,
        turns: Turns,
        clock: HistoryClock,
        end: End,
        *,
        epoch: int,
        old_bytes: int,
        page: int,
    ) -> None:
        """`old_bytes`, `page`: as in `packed`."""
        self._journal, self._index, self._present = journal, index, present
        self._turns, self._clock = turns, clock
        self.end = end
        self.owed: list[CatalogChange] = []
        """What no record makes, and no frame has yet: identities of objects that earlier plans have made. The next
        frame has it."""
        self.epoch = epoch
        """Of the session that writes. Never goes back."""
        self._old_bytes, self._page = old_bytes, page

    def in_turn(self, work: Callable[[], T]) -> T:
        """The result of `work`, within a turn. For a worker thread.

        Raises:
            StopRule: the index cannot be read or written (3548).
        """
        with self._turns.writing:
            try:
                return work()
            except sqlite3.Error as error:
                cause = f"cannot write the index of the history: {error}"
                raise StopRule(cause, code=Code.CDP_INDEX_WRITE) from error

    async def turn(self, work: Callable[[], T]) -> T:
        """The result of `work` in a worker thread, within a turn.

        Raises:
            StopRule: as `in_turn`.
        """
        return await in_thread(partial(self.in_turn, work))

    def now_ns(self) -> int:
        """The time by this node's clock, at which nothing was planned yet."""
        return max(self._clock.now_ns(), self._journal.segments[-1].applied_ns)

    def begin(self, plan: Plan) -> tuple[Written, Iterator[Packed], Packed]:
        """A plan to be written, the frames that are still to be made of it, and the first one. Within a turn. After an
        error it is as if it was never called.

        Raises:
            OSError: the replica cannot be read.
        """
        extra = self.owed
        frames = packed(plan, self._present, self.now_ns(), extra, old_bytes=self._old_bytes, page=self._page)
        first = next(frames)
        self.owed = []
        return Written(plan, self.end, extra), frames, first

    async def write(self, written: Written, frames: Iterator[Packed], frame: Packed | None) -> None:
        """Its frames become durable, and then readers know of them. After an error `withdraw` takes back what was
        written.

        Raises:
            OSError: the replica cannot be read.
            StopRule: journal or index cannot be written.
        """
        while frame is not None:
            (placed,) = await self._journal.append([self._draft(frame, written.plan)])
            written.frames.append(placed)
            written.payload = frame.payload
            frame = await self.turn(partial(self._added, frame, placed, frames))

    def _draft(self, frame: Packed, plan: Plan) -> Draft:
        head, first_ns, last_ns = frame.frame.head, self.end.last_ns, self.end.last_ns
        if head.records:
            first_ns, last_ns = plan.steps[0].change.time_ns, plan.steps[head.records - 1].change.time_ns
        header = Header(self.epoch, head.first_seq, head.records, first_ns, last_ns, head.applied_ns)
        return Draft(header, frame.payload)

    def _added(self, frame: Packed, placed: Placed, frames: Iterator[Packed]) -> Packed | None:
        self._add(frame, placed)
        return next(frames, None)

    def _add(self, frame: Packed, placed: Placed) -> None:
        """A durable frame gets into the index."""
        at = placed.payload_at
        changes = [change for _, change in frame.frame.catalog]
        self._index.add(frame.placed(*at), changes, frame.frame.batch(*at))
        self._follow(frame, placed)

    def _follow(self, frame: Packed, placed: Placed) -> None:
        """The frame is the last one now."""
        head, log = frame.frame.head, frame.frame.log
        tip = Tip(placed.number, head.first_seq + head.records, placed.hash)
        self.end = End(tip, placed.end, log[-1].time_ns if log else self.end.last_ns)
        if frame.frame.ends_plan:
            self._index.now.reach = placed.end

    async def enrol(self, roots: int) -> None:
        """History is switched on: what must be known before anything changes becomes the first frame. An earlier
        history may have left objects in the store: no number is given again that one of them has.

        Raises:
            OSError: the replica cannot be read.
            StopRule: journal or index cannot be written.
        """

        def begin() -> tuple[Written, Iterator[Packed], Packed]:
            taken = [int(name) for name in self._present.names(self._present.directory(STORE)) if name.isdigit()]
            first = max([self._index.catalog.next_oid, *(number + 1 for number in taken)])
            self.owed = [Object(first - 1, 0, None)] if taken else []
            for changes in enrol(self._present, range(roots), first):
                self.owed += changes
            return self.begin(Plan(1, ()))

        await self.write(*await self.turn(begin))
        await self.turn(self._index.flush)

    # ------------------------------------------------------------------------------------------- taken back

    def give_up(self, written: Written, last_seq: int) -> None:
        """What was planned after `last_seq` never was, as far as the index goes. Within a turn; `shorten` or `withdraw`
        follows."""
        self._index.give_up(last_seq, written.before.reach)

    async def shorten(self, written: Written, last_seq: int, corrections: Sequence[CatalogChange]) -> None:
        """The plan ends with `last_seq`, one of its records: its last frame is written again without the later ones.

        Raises:
            StopRule: journal or index cannot be written.
        """
        frame = await in_thread(shortened, written.payload, last_seq, corrections)
        (placed,) = await self._journal.cut(written.frames[-1].at, [self._draft(frame, written.plan)])
        await self.turn(partial(self._index.drop_after, written.plan.first_seq - 1))
        for ahead in written.frames[:-1]:
            (again,) = await self._journal.read(ahead.at, 0)
            await self.turn(partial(self._add_rows, again))
        await self.turn(partial(self._add_shortened, frame, placed, last_seq))

    def _add_rows(self, frame: Frame) -> None:
        self._index.add(unpacked(frame.payload, *frame.placed.payload_at).rows)

    def _add_shortened(self, frame: Packed, placed: Placed, last_seq: int) -> None:
        self._add(frame, placed)
        self._index.drop_after(last_seq)

    async def withdraw(self, written: Written) -> None:
        """Nothing of the plan was carried out: its frames are cut off.

        Raises:
            StopRule: the journal cannot be written.
        """
        self.owed = [*written.extra, *self.owed]
        if written.frames:
            await self._journal.cut(written.frames[0].at)
        self.end = written.before
