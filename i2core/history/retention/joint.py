"""Gives up a part of the past on both sides: the index, and the journal whose segments have the old bytes.

    1  quiet     the partitions of the run are closed: nobody changes their rows any more
    2  beside    rows are thinned out into new partitions, and with their old bytes into a merged segment;
                 records go on, and all of it may be broken off without a trace
    3  switch    the index prepares, the journal commits, the index follows (`index.switch`)

Segments that no kept moment needs at all are dropped without 2.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import attrs
import trio

from i2core.api import Code, StopRule
from i2core.api.journal import JournalFull, Segment, SegmentGone
from i2core.api.threads import in_thread
from i2core.history.index.catalog import Catalog
from i2core.history.index.index import Index
from i2core.history.index.now import PartFile
from i2core.history.index.partition import Partition
from i2core.history.index.schema import Table
from i2core.history.index.switch import generation, prepare, settle
from i2core.history.retention.carry import Carrier
from i2core.history.retention.held import Held, turn
from i2core.history.retention.kept import Kept
from i2core.history.retention.merge import Block, Merge, Row, put
from i2core.history.retention.state import State, generation_of

_Change = Callable[[bytes], Awaitable[object]]
"""Changes the journal, with this note."""


@attrs.define
class Outcome:
    """What one merge came to."""

    seen: int = 0
    """Rows that were read."""
    left: int = 0
    """Rows that stay."""


@attrs.frozen
class _Parts:
    """The partitions of a run, and those that take their place."""

    old: Sequence[Partition]
    cut: int
    """The last record about which rows have old bytes in the run."""
    log: tuple[int, int]
    """Which part of the log goes (`Pending`)."""
    lower: Partition
    """Rows up to the cut, thinned out."""
    upper: Partition
    """Rows above it, as they are: their frames are not merged."""

    def put(self, table: Table, below: Sequence[Row], above: Sequence[Row]) -> None:
        """Writes rows. Raises JournalFull, StopRule."""
        with _written(new=True):
            put(self.lower, table, below)
            put(self.upper, table, above)

    def finish(self) -> list[PartFile]:
        """Makes the new ones durable and closes them; those with rows. Raises JournalFull, StopRule."""
        found = []
        with _written(new=True):
            for part in (self.lower, self.upper):
                if part.count:
                    part.seal()
                    found.append(PartFile(os.path.basename(part.path), part.first, part.last, part.count))
                part.close()
        return found


def agree(index: Index, note: bytes) -> None:
    """Brings the index to where the journal is, whose note this is. To be called when both are opened, before frames
    are taken in.

    Raises:
        StopRule: the index is of another time than the journal (3550).
    """
    reached = generation_of(note)
    _settle(index, reached)
    if generation(index) != reached:
        cause = "the CDP index is not the one of these CDP data"
        raise StopRule(cause, code=Code.CDP_INDEX_DAMAGED, next_step="restore the CDP directory as a whole")


class Joint:
    """Changes index and journal together. One change at a time."""

    def __init__(self, held: Held) -> None:
        self._held = held

    # ------------------------------------------------------------------------------------------- what goes as a whole

    async def drop(self, run: Sequence[Segment], kept: Kept, state: State) -> State | None:
        """Drops the oldest segments, of which no kept moment needs anything, and all rows about them.

        Returns: the state as the note has it now; None: a moment needs old bytes of the last one after all.
        Raises:
            JournalFull: no room for the rows that stay, of partitions that have others; all is as it was.
        """
        async with self._held.journal.lease(_numbers(run)), self._closed(run, oldest=True) as parts:
            if parts.cut > kept.oldest:
                return None
            await self._thin(parts, None, Kept(parts.cut), Outcome())
            return await self._commit(parts, partial(self._held.journal.drop, _numbers(run)), state)

    async def drop_only(self, run: Sequence[Segment], kept: Kept, state: State) -> State | None:
        """As `drop`, at once and on a full disk: nothing is written but what says so. Rows about these segments stay in
        partitions that have others, until the next `drop`; they are of no moment, and keep objects in the store."""
        with trio.CancelScope(shield=True):
            async with self._held.journal.lease(_numbers(run)):
                reached = await turn(self._held, partial(_prepare_drop, self._held.index, run, kept))
                if not reached:
                    return None
                state = attrs.evolve(state, generation=reached)
                await self._switch(partial(self._held.journal.drop, _numbers(run)), state)
        return state

    # ------------------------------------------------------------------------------------------- merging

    async def merge(self, run: Sequence[Segment], kept: Kept, state: State, outcome: Outcome) -> State:
        """Merges neighbouring segments below the floor, with their partitions. Cancelled, it leaves all as it was.

        Returns: the state as the note has it now.

        Raises:
            JournalFull: no room, not even with the reserve; all is as it was.
            StopRule: a segment is damaged (3535): nothing of it is given up. Or a disk fails.
        """
        journal = self._held.journal
        async with journal.lease(_numbers(run)):
            await self._prove(run)
            async with self._closed(run) as parts, journal.merge(_numbers(run)) as target:
                await self._thin(parts, Carrier(journal, target, run), kept, outcome)
                return await self._commit(parts, target.commit, state)

    async def _prove(self, run: Sequence[Segment]) -> None:
        """Raises StopRule where a segment is damaged: copied, the damage would look like what was written."""
        for segment in run:
            found = await self._held.journal.inspect(segment.number)
            if found.faults or (found.before, found.after) != (segment.before, segment.after):
                cause = f"segment {segment.number} of the CDP data is damaged: it is not merged"
                raise StopRule(cause, code=Code.CDP_INCOMPLETE, next_step="i2 cdp verify tells what is damaged")

    @asynccontextmanager
    async def _closed(self, run: Sequence[Segment], *, oldest: bool = False) -> AsyncIterator[_Parts]:
        """The partitions of the run, closed, and new ones. What of these is none of the index at the end is removed."""
        async with self._held.recorder.at_rest():
            parts = await turn(self._held, partial(_close, self._held.index, run, oldest=oldest))
        try:
            yield parts
        finally:
            with trio.CancelScope(shield=True):
                await turn(self._held, partial(_remove_unused, self._held.index, parts))

    async def _thin(self, parts: _Parts, carrier: Carrier | None, kept: Kept, outcome: Outcome) -> None:
        with _reading(self._held.index, parts) as (beside, catalog):
            merge = Merge(beside, kept, catalog.born, parts.cut)
            blocks = merge.blocks()
            while (block := await in_thread(_next, blocks)) is not None:
                below = await carrier.move(block.table, block.below) if carrier is not None else []
                await in_thread(parts.put, block.table, below, block.above)
                outcome.seen, outcome.left = merge.seen, outcome.left + len(below)

    async def _commit(self, parts: _Parts, change: _Change, state: State) -> State:
        with trio.CancelScope(shield=True):
            new = await in_thread(parts.finish)
            reached = await turn(self._held, partial(_prepare_merge, self._held.index, parts, new))
            state = attrs.evolve(state, generation=reached)
            await self._switch(change, state)
        return state

    async def _switch(self, change: _Change, state: State) -> None:
        """The journal changes, and the index after it. Where the journal says that nothing has changed, the index takes
        its part back; where it does not know, the next start decides by the note."""
        index = self._held.index
        with trio.CancelScope(shield=True):
            try:
                await change(state.encode())
            except (JournalFull, SegmentGone):
                await turn(self._held, partial(_settle, index, state.generation - 1))
                raise
            await turn(self._held, partial(_settle, index, state.generation))


@contextmanager
def _written(*, new: bool = False) -> Iterator[None]:
    """Raises what fails in the index as `Joint.merge` has it. `new`: nothing but new files is written, so a full disk
    leaves all as it was; else the index must be opened again."""
    try:
        yield
    except sqlite3.Error as error:
        code = Code.CDP_INDEX_WRITE
        if new and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise JournalFull("there is no room to merge the CDP index", code=code) from error
        next_step = "check the disk of the CDP directory, then start the rule"
        raise StopRule(f"cannot write the CDP index: {error}", code=code, next_step=next_step) from error


def _cut(index: Index, run: Sequence[Segment]) -> int:
    """The last record about which rows have old bytes in the run. A record that destroys much has frames with old bytes
    ahead of the one that it is in itself, so these may lie in the segment before."""
    first = run[-1].next_seq
    batch = index.batches.get(first)
    if batch is None:
        return first - 1
    numbers = _numbers(run)
    parts = (part for part in index.every() if part.first <= batch.last_seq and part.last >= first)
    into = any(part.ask.leads_into(numbers, first, batch.last_seq) for part in parts)
    return batch.last_seq if into else first - 1


def _prepare_drop(index: Index, run: Sequence[Segment], kept: Kept) -> int:
    """The generation; 0: a moment needs something of the run."""
    with _written():
        cut = _cut(index, run)
        if cut > kept.oldest:
            return 0
        index.sync()  # the next start needs no frame of the run
        old = [part for part in index.parts.all if part.last <= cut and part is not index.parts.growing]
        return prepare(index, old, (), log=(-1, run[-1].next_seq - 1))


def _prepare_merge(index: Index, parts: _Parts, new: Sequence[PartFile]) -> int:
    with _written():
        return prepare(index, parts.old, new, log=parts.log)


def _settle(index: Index, reached: int) -> None:
    with _written():
        settle(index, reached)


def _numbers(run: Sequence[Segment]) -> list[int]:
    return [segment.number for segment in run]


def _close(index: Index, run: Sequence[Segment], *, oldest: bool) -> _Parts:
    """`oldest`: with all partitions before those of the run."""
    with _written():
        cut = _cut(index, run)
        index.sync()  # the next start needs no frame of the run
        first = 0 if oldest else run[0].first_seq
        found = [at for at, part in enumerate(index.parts.all) if part.first <= cut and part.last >= first]
        old = index.parts.all[found[0] : found[-1] + 1] if found else []
        if index.parts.growing in old:
            index.close_growing()
        lower = index.parts.new(min([first, *(part.first for part in old)]))
        upper = index.parts.new(cut + 1)
        lower.last, upper.last = cut, max([cut, *(part.last for part in old)])
        log = -1 if oldest else run[0].first_seq, run[-1].next_seq - 1
        return _Parts(old, cut, log, lower, upper)


@contextmanager
def _reading(index: Index, parts: _Parts) -> Iterator[tuple[list[Partition], Catalog]]:
    """The old partitions and the catalog, for who does not have the turn."""
    beside = [part.beside() for part in parts.old]
    db = index.now.beside()
    try:
        yield beside, Catalog(db)
    finally:
        for part in beside:
            part.close()
        db.close()


def _next(blocks: Iterator[Block]) -> Block | None:
    return next(blocks, None)


def _remove_unused(index: Index, parts: _Parts) -> None:
    pending = index.now.pending
    used = {os.path.basename(part.path) for part in index.parts.all}
    if pending is not None:  # nobody knows whether the journal has changed
        used |= {part.file for part in pending.new}
    for part in (parts.lower, parts.upper):
        part.close()
        if os.path.basename(part.path) not in used:
            index.parts.remove_file(os.path.basename(part.path))
