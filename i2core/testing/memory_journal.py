"""A journal in memory: what a `Journal` is to do, said as plainly as can be; the model for tests of real ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

from i2core.api import Code, DriverKind, DriverSpec, NoConfig, StopRule
from i2core.api.journal import (
    Draft,
    Frame,
    Inspection,
    Journal,
    JournalContext,
    JournalFull,
    Mark,
    Merge,
    Piece,
    Placed,
    Position,
    Seal,
    Segment,
    SegmentGone,
    Space,
    Tip,
)
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import FrameKind
from i2core.testing.memory_shelf import TOTAL_BYTES, MemoryShelf, Part, seal_of, seals_in


class MemoryJournal(Journal):
    """A journal on a `MemoryShelf`. All is durable at once. It has a method for each of the contract `Journal`."""

    def __init__(self, context: JournalContext, shelf: MemoryShelf) -> None:
        """Raises StopRule when it ends before the tip that is known to be durable, or has another frame there."""
        self.identity = context.directory.hex()
        self._shelf, self._context = shelf, context
        self._reserve = context.reserve_bytes
        self._leases: Counter[int] = Counter()
        self._gone: dict[int, Part] = {}
        """What was replaced or dropped, and is leased."""
        self._merging = False
        if not shelf.parts:
            shelf.parts.append(Part(shelf.number(), ChainEnd(), ChainEnd()))
        kept = context.kept
        hashes = {part.end.number: part.end.hash for part in shelf.parts if part.replaced is None}
        hashes |= {f.placed.number: f.placed.hash for p in shelf.parts if not p.replaced for _, f in p.frames}
        if kept and (kept.number > self.tip.number or hashes.get(kept.number, kept.hash) != kept.hash):
            raise StopRule("the journal's end is gone", code=Code.CDP_INCOMPLETE, obj=str(context.directory))

    @property
    def _last(self) -> Part:
        return self._shelf.parts[-1]

    @property
    def tip(self) -> Tip:
        return self._last.end.tip

    @property
    def end(self) -> Position:
        return Position(self._last.number, self._last.size)

    @property
    def segments(self) -> Sequence[Segment]:
        return tuple(part.segment() for part in self._shelf.parts)

    @property
    def marks(self) -> Sequence[Mark]:
        return tuple(self._shelf.marks)

    @property
    def note(self) -> bytes:
        return self._shelf.note

    async def append(self, group: Sequence[Draft]) -> list[Placed]:
        await trio.lowlevel.checkpoint()
        end = self._last.end
        for draft in group:
            _, end = end.follow(draft, settled=0)
        self._need(group, self._shelf.room)
        if self._last.size >= self._context.segment_bytes:
            self._begin(self._last.end)
        return [self._last.add(draft) for draft in group]

    def _need(self, group: Sequence[Draft], room: int) -> None:
        used = sum(part.size for part in (*self._shelf.parts, *self._gone.values()))
        if used + sum(len(draft.payload) for draft in group) > room:
            raise JournalFull("no room", obj=str(self._context.directory))

    def _begin(self, end: ChainEnd) -> None:
        self._shelf.parts.append(Part(self._shelf.number(), end, end))

    async def roll(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._last.frames:
            self._begin(self._last.end)

    async def read(self, at: Position, most_bytes: int) -> list[Frame]:
        await trio.lowlevel.checkpoint()
        read: list[Frame] = []
        for kind, frame in self._part(at.segment).frames:
            if frame.placed.at.offset < at.offset or kind is not FrameKind.BATCH:
                continue
            most_bytes -= len(frame.payload)
            if read and most_bytes < 0:
                break
            read.append(frame)
        return read

    def _part(self, number: int) -> Part:
        for part in (*self._shelf.parts, *self._gone.values()):
            if part.number == number:
                return part
        raise SegmentGone(number)

    async def pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return self.read_pieces(pieces)

    def read_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        return [self._piece(piece) for piece in pieces]

    def _piece(self, piece: Piece) -> bytes:
        for _, frame in self._part(piece.at.segment).frames:
            start = piece.at.offset - frame.placed.payload_at.offset
            if start >= 0 and start + piece.size_bytes <= len(frame.payload):
                return frame.payload[start : start + piece.size_bytes]
        raise StopRule("there are no such bytes", code=Code.CDP_INCOMPLETE)

    async def cut(self, at: Position, instead: Sequence[Draft] = ()) -> list[Placed]:
        await trio.lowlevel.checkpoint()
        parts = self._shelf.parts
        index = next((i for i, part in enumerate(parts) if part.number == at.segment), -1)
        if index < 0 or any(part.replaced for part in parts[index:]):
            raise ValueError(f"no frame of the chain's end begins at {at}")
        part = parts[index]
        kept = next((i for i, (_, f) in enumerate(part.frames) if f.placed.at.offset == max(at.offset, 0)), None)
        if kept is None and at.offset not in (0, part.size):
            raise ValueError(f"no frame begins at {at}")
        end = part.after(len(part.frames) if kept is None else kept)
        begun = end
        for draft in instead:
            _, begun = begun.follow(draft, settled=0)
        self._need(instead, self._shelf.room)
        for gone in parts[index + 1 :]:
            self._give_up(gone)
        del parts[index + 1 :]
        part.frames, part.end = part.frames[: len(part.frames) if kept is None else kept], end
        if not part.frames:
            parts.remove(part)
        self._begin(end)
        self._seal_again()
        return [self._last.add(draft) for draft in instead]

    def _seal_again(self) -> None:
        said = {seal.segment for seal in self._seals()}
        missing = [seal_of(part) for part in self._shelf.parts if part.replaced and part.number not in said]
        if missing:
            self._last.add(self._last.end.sealing(missing), FrameKind.MERGE)

    def _seals(self) -> Iterator[Seal]:
        for part in self._shelf.parts:
            yield from seals_in(part)

    @asynccontextmanager
    async def merge(self, run: Sequence[int]) -> AsyncIterator[Merge]:
        await trio.lowlevel.checkpoint()
        parts = self._run(run)
        if self._merging:
            raise ValueError("another merge is under way")
        self._merging = True
        try:
            yield MemoryMerge(self, [part.segment() for part in parts])
        finally:
            self._merging = False

    def _run(self, run: Sequence[int]) -> list[Part]:
        numbers = [part.number for part in self._shelf.parts]
        for number in run:
            if number not in numbers:
                raise SegmentGone(number)
        if not run or run[-1] == numbers[-1]:
            raise ValueError(f"no run of segments that may be replaced: {run}")
        first = numbers.index(run[0])
        if numbers[first : first + len(run)] != list(run):
            raise ValueError(f"these segments are no neighbours: {run}")
        return self._shelf.parts[first : first + len(run)]

    def _replace(self, run: Sequence[Segment], merged: Part | None, note: bytes | None) -> None:
        parts = self._shelf.parts
        first = next((i for i, part in enumerate(parts) if part.number == run[0].number), -1)
        gone = parts[first : first + len(run)]
        if first < 0 or [part.segment() for part in gone] != list(run):
            raise SegmentGone(run[0].number)
        parts[first : first + len(run)] = [merged] if merged else []
        for part in gone:
            self._give_up(part)
        self._shelf.note = self._shelf.note if note is None else note
        self._reserve = self._context.reserve_bytes
        if merged:
            self._seal_again()

    def _give_up(self, part: Part) -> None:
        if self._leases[part.number]:
            self._gone[part.number] = part

    async def drop(self, run: Sequence[int], note: bytes | None = None) -> None:
        await trio.lowlevel.checkpoint()
        parts = self._run(run)
        if parts[0] is not self._shelf.parts[0]:
            raise ValueError(f"these are not the oldest segments: {run}")
        self._replace([part.segment() for part in parts], None, note)

    @asynccontextmanager
    async def lease(self, segments: Sequence[int]) -> AsyncIterator[None]:
        with self._leased(segments):
            await trio.lowlevel.checkpoint()
            yield

    @contextmanager
    def _leased(self, segments: Sequence[int]) -> Iterator[None]:
        for number in segments:
            self._part(number)
        self._leases.update(segments)
        try:
            yield
        finally:
            self._leases.subtract(segments)
            for number in [number for number in self._gone if not self._leases[number]]:
                del self._gone[number]

    async def mark(self, add: Sequence[Mark] = (), remove: Sequence[Mark] = ()) -> None:
        await trio.lowlevel.checkpoint()
        marks = (set(self._shelf.marks) - set(remove)) | set(add)
        self._shelf.marks = sorted(marks, key=lambda mark: (mark.next_seq, mark.time_ns, mark.kind.value, mark.name))

    async def annotate(self, note: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._shelf.note = note

    async def inspect(self, segment: int, numbers: Sequence[int] = ()) -> Inspection:
        await trio.lowlevel.checkpoint()
        part = self._part(segment)
        found = part.segment()
        hashes = [(f.placed.number, f.placed.hash) for _, f in part.frames if f.placed.number in numbers]
        return Inspection(
            segment=segment,
            before=found.before,
            after=found.after,
            hash=part.end.hash,
            frames=len(part.frames),
            next_seq=found.next_seq,
            seals=list(seals_in(part)),
            hashes=[] if part.replaced else hashes,
        )

    async def space(self) -> Space:
        await trio.lowlevel.checkpoint()
        used = sum(part.size for part in (*self._shelf.parts, *self._gone.values()))
        return Space(used, max(self._shelf.room - used, 0), TOTAL_BYTES, self._reserve)

    async def use_reserve(self) -> None:
        await trio.lowlevel.checkpoint()
        self._reserve = 0

    async def restore_reserve(self) -> bool:
        await trio.lowlevel.checkpoint()
        self._reserve = self._context.reserve_bytes
        return True


class MemoryMerge(Merge):
    """A merged segment of a `MemoryJournal`."""

    def __init__(self, journal: MemoryJournal, run: Sequence[Segment]) -> None:
        self._journal, self._run = journal, run
        replaced = journal._part(run[0].number).ends[0], journal._part(run[-1].number).ends[1]
        number = journal._shelf.number()
        self._part = Part(number, ChainEnd(), ChainEnd(), replaced=replaced, first_ns=run[0].first_ns)

    async def write(self, group: Sequence[Draft]) -> list[Placed]:
        await trio.lowlevel.checkpoint()
        self._journal._need(group, self._journal._shelf.room + self._journal._context.reserve_bytes)
        return [self._part.add(draft) for draft in group]

    async def commit(self, note: bytes | None = None) -> Segment:
        await trio.lowlevel.checkpoint()
        self._journal._replace(self._run, self._part, note)
        return self._part.segment()


def memory_journal(shelf: MemoryShelf | None = None) -> DriverSpec:
    """The driver ``"memory"`` on this shelf; for each directory a shelf of its own when there is none."""
    shelves: dict[bytes, MemoryShelf] = {}

    @asynccontextmanager
    async def open_memory(config: NoConfig, context: JournalContext) -> AsyncIterator[Journal]:
        kept = shelf or shelves.get(context.directory)
        if kept is None:
            if context.known:
                raise StopRule("the journal is not there", code=Code.CDP_DESCRIPTION_READ)
            kept = shelves.setdefault(context.directory, MemoryShelf())
        if kept.is_open:
            raise StopRule("the journal is open already", code=Code.DUPLICATE_TASK)
        kept.is_open = True
        try:
            yield MemoryJournal(context, kept)
        finally:
            kept.is_open = False

    return DriverSpec(
        kind=DriverKind.JOURNAL, name="memory", summary="a history in memory, for tests", open=open_memory
    )
