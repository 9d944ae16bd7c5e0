"""Start-up: journal, index and replica agree again, whatever a crash has left of each."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial

from i2core.api import Code, Line, StopRule, in_thread
from i2core.api.journal import Frame, Journal, Position
from i2core.api.present import Replica
from i2core.history.index.index import Index
from i2core.history.journal.columns import Damaged
from i2core.history.journal.take_in import take_in
from i2core.history.model.grain import Grain
from i2core.history.read.past import OldBytes
from i2core.history.read.places import ObjectLost
from i2core.history.record.clock import Clocks, HistoryClock
from i2core.history.record.durable import CannotGoOn, Durable
from i2core.history.recovery.undo import Undo
from i2core.history.retention.joint import agree
from i2core.posix.patience import patiently

_PAGE_BYTES = 8 * 1024 * 1024


class IndexLost(Exception):
    """The index, or a part of it, is gone or is not what was written."""


class Opening:
    """One start-up. Nobody else uses what it is given."""

    def __init__(
        self,
        journal: Journal,
        replica: Replica,
        directory: str,
        old: OldBytes,
        grain: Grain,
        say: Callable[[str], None],
    ) -> None:
        self._journal, self._replica, self._directory = journal, replica, directory
        self._old, self._grain, self._say = old, grain, say

    # ------------------------------------------------------------------------------------------- the index

    async def index(self, clocks: Clocks, durable: Durable | None) -> tuple[Index, HistoryClock]:
        """The index, with all frames of the journal. A new history begins with an empty one.

        Raises:
            CannotGoOn: there is a history, and no position in it.
            StopRule: the index is damaged, and the journal alone cannot give it again (3550).
        """
        if durable is None:
            await self._wipe()
        try:
            return await self._followed(clocks)
        except IndexLost as error:
            self._report(error)
            await in_thread(self._set_aside)
            return await self._followed(clocks)

    async def _wipe(self) -> None:
        """Clears what a beginning has left that was cut off."""
        if self._journal.tip.next_seq > 1:
            raise CannotGoOn("the journal has records, and nobody knows which of them the replica has")
        if self._journal.tip.number:
            await self._journal.cut(Position(self._journal.segments[0].number, 0))
        await in_thread(partial(shutil.rmtree, self._directory, ignore_errors=True))

    async def _followed(self, clocks: Clocks) -> tuple[Index, HistoryClock]:
        index, clock, start = await in_thread(self._opened, clocks)
        is_lost = start == (0, 0) and self._journal.tip.number > 0 and not self._is_whole()
        try:
            if is_lost:
                raise IndexLost("it is empty")  # noqa: TRY301
            await self._follow(index, start)
        except BaseException:
            await in_thread(index.abandon)
            raise
        return index, clock

    async def _follow(self, index: Index, start: Position) -> None:
        """The index takes in what comes after this place, and nothing else is left of it there."""
        next_seq: int | None = None
        async for page in self._frames(start):
            if next_seq is None:
                next_seq = page[0].header.first_seq
                await in_thread(index.go_on_after, next_seq - 1)
            await in_thread(_take_in, index, page)
        if next_seq is None:
            await in_thread(index.go_on_after, self._journal.tip.next_seq - 1)

    def _opened(self, clocks: Clocks) -> tuple[Index, HistoryClock, Position]:
        """The index as it is, and where the journal goes on."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        try:
            index = Index(self._directory)
            try:
                start, clock = self._asked(index, clocks)
            except BaseException:
                index.abandon()
                raise
        except FileNotFoundError as error:
            raise IndexLost(f"{error.filename} is missing") from error
        except UnicodeDecodeError as error:
            # SQLite quotes text of a damaged file in its message; Python fails if that is not UTF-8.
            raise IndexLost(f"its schema is no text: {error}") from error
        except sqlite3.OperationalError as error:
            raise StopRule(
                f"cannot open the index of the history: {error}", code=Code.CDP_INDEX_READ, obj=self._directory
            ) from error
        except sqlite3.DatabaseError as error:
            raise IndexLost(str(error)) from error
        return index, clock, start

    def _asked(self, index: Index, clocks: Clocks) -> tuple[Position, HistoryClock]:
        """Where the journal goes on, and the clock that was kept."""
        agree(index, self._journal.note)
        boot, now = clocks().boot_id.hex(), index.now
        start = Position(*(now.reach if now.state("boot") == boot else now.synced))
        now.reach = start
        now.set_state("boot", boot)
        return start, HistoryClock(clocks, str(now.state("clock")), self._journal.segments[-1].applied_ns)

    async def _frames(self, start: Position) -> AsyncIterator[list[Frame]]:
        """The frames of the journal that come after this place."""
        numbers = [segment.number for segment in self._journal.segments]
        if start.segment in numbers:
            del numbers[: numbers.index(start.segment)]
        else:  # its segment was merged or dropped, or there was none: merged ones are in the index
            merged = [segment.number for segment in self._journal.segments if segment.merged]
            del numbers[: numbers.index(merged[-1]) + 1 if merged else 0]
        for number in numbers:
            at = start if number == start.segment else Position(number, 0)
            while page := await self._journal.read(at, _PAGE_BYTES):
                yield page
                at = page[-1].placed.end

    def _is_whole(self) -> bool:
        """Nothing was merged or dropped yet: the journal has all that the index needs."""
        segments = self._journal.segments
        return segments[0].first_frame == 1 and not any(segment.merged for segment in segments)

    def _report(self, error: IndexLost) -> None:
        if not self._is_whole():
            raise StopRule(
                f"the index of the history is damaged: {error}", code=Code.CDP_INDEX_DAMAGED, obj=self._directory
            ) from error
        cause = f"the index of the history is damaged ({error}); it is made again from the journal"
        self._say(Line(cause, code=Code.CDP_INDEX_DAMAGED, obj=self._directory, cause=cause))

    def _set_aside(self) -> None:
        aside = f"{self._directory}.damaged"
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.rename(self._directory, aside)

    # ------------------------------------------------------------------------------------------- the replica

    async def undo(self, index: Index, durable: Durable) -> None:
        """Takes replica, index and journal back to the durable position.

        Raises:
            CannotGoOn: somebody else has changed the replica, or it has not what the history says.
            StopRule: replica or journal cannot be changed.
        """
        journal = self._journal
        if journal.tip.number < durable.tip.number:
            raise StopRule("the journal lacks frames that it had", code=Code.CDP_INCOMPLETE)
        has_tail = journal.tip.number > durable.tip.number
        if has_tail or index.now.reach != durable.reach:
            work = partial(self._undo, index, durable)
            await patiently(work, self._say, lambda: "the replica, taken back to its durable state")
        if has_tail:
            await journal.cut(self._after(durable))

    def _undo(self, index: Index, durable: Durable) -> None:
        try:
            for _ in Undo(index, self._replica, self._old, durable.seq, durable.reach, self._grain).run():
                pass
        except ObjectLost as error:
            raise CannotGoOn(f"another program changed the replica: {error.strerror}") from error

    def _after(self, durable: Durable) -> Position:
        """Where the frame after the position begins."""
        segments = self._journal.segments
        if any(segment.number == durable.reach.segment for segment in segments):
            return durable.reach
        return next(Position(each.number, 0) for each in segments if each.first_frame > durable.tip.number)


def _take_in(index: Index, page: list[Frame]) -> None:
    try:
        for frame in page:
            if take_in(index, frame.payload, *frame.placed.payload_at):
                index.now.reach = frame.placed.end
    except Damaged as error:
        raise StopRule(f"the journal has a frame that nobody can read: {error}", code=Code.CDP_VERSION) from error
    except sqlite3.OperationalError as error:
        raise StopRule(f"cannot write the index of the history: {error}", code=Code.CDP_INDEX_WRITE) from error
    except sqlite3.DatabaseError as error:
        raise IndexLost(str(error)) from error
