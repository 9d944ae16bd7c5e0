"""The history of one replica, open: for whoever records, reads the past, or thins it out."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from i2core.api import in_thread
from i2core.api.journal import Journal, Position
from i2core.api.present import Replica
from i2core.history.index.index import Index
from i2core.history.journal.packing import FRAME_OLD_BYTES
from i2core.history.model.grain import Grain
from i2core.history.model.rows import Moment
from i2core.history.plan.plan import Planner
from i2core.history.read.log import Log
from i2core.history.read.past import Past
from i2core.history.read.places import Places
from i2core.history.read.tree import PastTree
from i2core.history.record.clock import Clocks, HistoryClock
from i2core.history.record.durable import Durable
from i2core.history.record.old_bytes import JournalBytes
from i2core.history.record.opening import Opening
from i2core.history.record.recorder import Recorder
from i2core.history.record.turns import Turn, Turns
from i2core.history.record.writing import End, FrameWriter
from i2core.history.retention.kept import Kept
from i2core.history.retention.pins import Pins
from i2core.history.retention.state import kept_of
from i2core.history.retention.terms import Keeping
from i2core.history.retention.thinner import Thinner


@attrs.frozen(kw_only=True)
class HistoryContext:
    """What a history is opened with."""

    directory: str
    """For its index; the directory above exists."""
    roots: int
    """How many roots the replica has."""
    epoch: int
    """Of the rule's owner; written into frames, and never goes back."""
    clocks: Clocks
    say: Callable[[str], None] = lambda line: None
    flags: bool = False
    """The rule carries inode flags."""
    grain: Grain = attrs.field(factory=Grain)
    old_bytes: int = FRAME_OLD_BYTES
    """About so many in one frame."""
    keeping: Keeping | None = None
    """How the past is given up; None: nothing is, also on a full disk."""


class History:
    """One replica's history. Its methods are for worker threads; who uses what they give holds `reading` meanwhile, and
    for a change of index or store `recorder.at_rest` and `writing`. A `PastTree` does so by itself."""

    def __init__(
        self,
        context: HistoryContext,
        journal: Journal,
        index: Index,
        replica: Replica,
        recorder: Recorder,
        turns: Turns,
        clock: HistoryClock,
        durable: Durable,
        begun_ns: int,
    ) -> None:
        self._context = context
        self.journal, self.index, self.replica = journal, index, replica
        self.recorder = recorder
        self.clock = clock
        self.durable = durable
        """The position that the owner of the replica has saved; set by it after each save. What is beyond may be
        undone, so retention leaves it alone."""
        self.begun_ns = begun_ns
        """When the history began, by this node's clock; 0: what tells that was given up with the oldest moments."""
        self.reading: Turn = turns.reading
        self.writing: Turn = turns.writing
        self.pins = Pins(self.kept)
        """Whoever reads a moment for longer than a call pins it, in the event loop."""
        self.thinner: Thinner | None = None
        """Gives up the past; None: nobody does."""
        self._old = JournalBytes(journal)

    @property
    def flags(self) -> bool:
        """As in `HistoryContext`."""
        return self._context.flags

    @property
    def epoch(self) -> int:
        """As in `HistoryContext`."""
        return self._context.epoch

    @property
    def seq(self) -> int:
        """The present: the last record that is carried out."""
        return self.recorder.seq

    def past(self) -> Past:
        """Reads past states; `places.close` at the end."""
        return Past(self.index, Places(self.index, self.replica), self._old, self._context.grain)

    def log(self) -> Log:
        """Reads the log."""
        return Log(self.index, self._old)

    def tree(self, root: int, seq: int, path: bytes = b"", *, only: bytes | None = None) -> PastTree:
        """One root at a moment. `path`, `only`: as in `PastTree`."""
        past = Past(self.index, Places(self.index, self.replica), JournalBytes(self.journal), self._context.grain)
        return PastTree(past, seq, path, root=root, only=only, flags=self._context.flags, lock=self.reading)

    def moment(self, time_ns: int) -> Moment | None:
        """As `Log.moment`. Takes its turn by itself."""
        with self.reading:
            return self.log().moment(time_ns)

    def kept(self) -> Kept:
        """Which moments can be had. Those that somebody pins (`pins`) stay readable longer."""
        return kept_of(self.journal)


@asynccontextmanager
async def open_history(
    context: HistoryContext, journal: Journal, replica: Replica, durable: Durable | None
) -> AsyncIterator[History]:
    """The history of a replica that nobody changes meanwhile. The replica is taken back to the durable position. None:
    a new history begins with the replica as it stands; its position (`History.durable`) is to be saved before the
    first record.

    Raises:
        CannotGoOn: replica, position and journal are not of one history.
        StopRule: journal, index or replica cannot be read or written.
    """
    turns = Turns()
    opening = Opening(journal, replica, context.directory, JournalBytes(journal), context.grain, context.say)
    index, clock = await opening.index(context.clocks, durable)
    recorder: Recorder | None = None
    try:
        if durable is not None:
            await opening.undo(index, durable)
        end = End(*durable[1:], journal.segments[-1].last_ns) if durable else End()
        writer = FrameWriter(
            journal,
            index,
            replica,
            turns,
            clock,
            end,
            epoch=context.epoch,
            old_bytes=context.old_bytes,
            page=context.grain.hole,
        )
        if durable is None:
            await writer.enrol(context.roots)
            durable = Durable(0, writer.end.tip, writer.end.reach)
        planner = Planner(index.catalog, replica, index.catalog.next_oid, context.grain, flags=context.flags)
        planner.applied(durable.seq)
        recorder = Recorder(writer, planner, index, replica, seq=durable.seq, say=context.say)
        begun_ns = await _begun_ns(journal)
        history = History(context, journal, index, replica, recorder, turns, clock, durable, begun_ns)
        if context.keeping is None:
            yield history
            return
        async with _thinned(history, context.keeping):
            yield history
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(_close, turns, index, clock, recorder)


@asynccontextmanager
async def _thinned(history: History, keeping: Keeping) -> AsyncIterator[None]:
    """Within the block the past is given up as it was promised, by whoever calls `History.thinner`."""
    history.thinner = history.recorder.room = thinner = await Thinner.begin(history, keeping)
    try:
        yield
    finally:
        with trio.CancelScope(shield=True):
            await thinner.close()


def _close(turns: Turns, index: Index, clock: HistoryClock, recorder: Recorder | None) -> None:
    """Who still reads learns that it is closed. What is wrong with the index is given up: the journal has it."""
    with turns.writing:
        turns.close()
        if recorder is None or recorder.broken is not None:
            index.abandon()
            return
        recorder.close()
        try:
            index.now.set_state("clock", clock.encode())
            index.close()
        except sqlite3.Error:  # its disk is full or gone; that it cannot be read is told when it is opened
            index.abandon()


async def _begun_ns(journal: Journal) -> int:
    first = journal.segments[0]
    if first.merged or first.first_frame > 1:
        return 0
    frames = await journal.read(Position(first.number, 0), 1)
    return frames[0].header.applied_ns if frames else 0
