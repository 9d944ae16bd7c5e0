"""Appending and reading."""

from __future__ import annotations

import trio

from i2core.api import in_thread
from i2core.api.journal import Draft, Header, Mark, MarkKind, Piece, Position, SegmentGone
from i2core.api.journal.frames import NO_HASH, PAYLOAD_BYTES
from i2core.testing.journal.trial import Trial, payloads, prove


async def empty(trial: Trial) -> None:
    """A new journal has one segment, and nothing in it."""
    async with trial.open() as journal:
        assert (journal.tip.number, journal.tip.next_seq, journal.tip.hash) == (0, 0, NO_HASH)
        assert len(journal.segments) == 1
        assert not journal.marks
        assert journal.note == b""
        assert await payloads(journal) == []
        assert await journal.append([]) == []
        await prove(journal)


async def in_order(trial: Trial) -> None:
    """Groups come back in order; places and tips are right, also after it was opened again."""
    written = [b"", b"one", b"\0" * 5000, b"three" * 300, b"four"]
    async with trial.open() as journal:
        first = await journal.append(trial.group(*written[:3]))
        second = await journal.append(trial.group(*written[3:]))
        assert [placed.number for placed in first + second] == [1, 2, 3, 4, 5]
        assert len({placed.at.segment for placed in first}) == 1, "a group lies in several segments"
        assert journal.tip == (5, 6, second[-1].hash)
        assert journal.end == second[-1].end
        assert await payloads(journal) == written
        tip, segments = journal.tip, journal.segments
        await prove(journal, [tip])
    async with trial.open(known=journal.identity, kept=tip) as journal:
        assert (journal.tip, journal.segments) == (tip, segments)
        assert await payloads(journal) == written
        await prove(journal, [tip])


async def by_place(trial: Trial) -> None:
    """Frames and pieces are found by their place."""
    async with trial.open() as journal:
        placed = await journal.append(trial.group(b"first", b"0123456789", b"last"))
        page = await journal.read(placed[1].at, 1 << 20)
        assert [frame.payload for frame in page] == [b"0123456789", b"last"]
        assert [frame.placed for frame in page] == placed[1:]
        assert len(await journal.read(placed[0].at, 0)) == 1, "one frame at least"
        assert await journal.read(placed[2].end, 1 << 20) == []
        at = placed[1].payload_at
        pieces = [Piece(Position(at.segment, at.offset + 3), 4), Piece(placed[0].payload_at, 5), Piece(at, 0)]
        assert await journal.pieces(pieces) == [b"3456", b"first", b""]
        assert await in_thread(journal.read_pieces, pieces) == [b"3456", b"first", b""]
        for asked in (journal.read(Position(10**9, 0), 1), journal.pieces([Piece(Position(10**9, 0), 1)])):
            try:
                await asked
            except SegmentGone:
                continue
            raise AssertionError("there is a segment that is not")
        try:
            journal.read_pieces([Piece(Position(10**9, 0), 1)])
        except SegmentGone:
            return
        raise AssertionError("there is a segment that is not")


async def never_back(trial: Trial) -> None:
    """Seqs and times never go back, and nothing is written of a group in which they would."""
    async with trial.open() as journal:
        await journal.append([Draft(Header(2, 10, 5, 100, 200, 300), b"good")])
        tip, end = journal.tip, journal.end
        for header in (
            Header(1, 15, 1, 200, 200, 300),
            Header(2, 14, 1, 200, 200, 300),
            Header(2, 15, 1, 199, 300, 300),
            Header(2, 15, 1, 300, 299, 300),
            Header(2, 15, 1, 200, 200, 299),
            Header(2, 15, -1, 200, 200, 300),
        ):
            try:
                await journal.append([Draft(Header(2, 15, 0, 200, 200, 300), b""), Draft(header, b"bad")])
            except ValueError:
                continue
            raise AssertionError(f"went back: {header}")
        try:
            await journal.append([Draft(Header(2, 15, 1, 200, 200, 300), memoryview(bytearray(PAYLOAD_BYTES + 1)))])
        except ValueError:
            pass
        else:
            raise AssertionError("a payload may have any length")
        assert (journal.tip, journal.end) == (tip, end)
        await journal.append([Draft(Header(2, 20, 0, 200, 200, 300), b"a gap, and no record")])
        assert journal.tip.next_seq == 20


async def segments_follow(trial: Trial) -> None:
    """A full segment is followed by a new one, and `roll` begins one earlier."""
    async with trial.open() as journal:
        for number in range(6):
            await journal.append(trial.group(bytes([number]) * 3000))
        assert 3 <= len(journal.segments) <= 6
        await journal.roll()
        before = journal.segments
        await journal.roll()
        assert journal.segments == before, "an empty segment was followed by another"
        await journal.append(trial.group(b"in a new one"))
        for one, next_one in zip(journal.segments, journal.segments[1:], strict=False):
            assert (one.after, one.next_frame, one.next_seq) == (
                next_one.before,
                next_one.first_frame,
                next_one.first_seq,
            ), "a segment does not follow the one before"
        assert len({segment.number for segment in journal.segments}) == len(journal.segments)
        await prove(journal)


async def beside_each_other(trial: Trial) -> None:
    """Calls beside each other: what is appended comes in some order, whole; readers see whole frames."""
    async with trial.open() as journal:
        seen: list[int] = []

        async def read_on() -> None:
            while len(seen) < 20:
                seen.append(len(await payloads(journal)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_on)
            for _ in range(20):
                await journal.append(trial.group(b"x" * 500, b"y"))
        assert seen == sorted(seen), "a reader saw fewer frames than before"
        assert await payloads(journal) == [b"x" * 500, b"y"] * 20


async def marks_and_note(trial: Trial) -> None:
    """Marks and the note stay, in the order of their moments."""
    day, tag = Mark(5, 50, MarkKind.DAY), Mark(3, 30, MarkKind.TAG, "before the update")
    async with trial.open() as journal:
        await journal.mark([day, tag])
        await journal.mark([day], [Mark(4, 40, MarkKind.MONTH)])
        await journal.annotate(b"\0note\n" * 1000)
        assert list(journal.marks) == [tag, day]
    async with trial.open() as journal:
        assert list(journal.marks) == [tag, day]
        assert journal.note == b"\0note\n" * 1000
        await journal.mark(remove=[tag])
        await journal.annotate(b"")
    async with trial.open() as journal:
        assert list(journal.marks) == [day]
        assert journal.note == b""


STEPS = (empty, in_order, by_place, never_back, segments_follow, beside_each_other, marks_and_note)
