"""Cutting off the end, as start-up does."""

from __future__ import annotations

from i2core.api.journal import Journal, Position
from i2core.testing.journal.trial import Trial, payloads, prove


async def cut_within(trial: Trial) -> None:
    """Cut in the middle of a segment, with a frame instead: in one step, and for good."""
    async with trial.open() as journal:
        placed = await journal.append(trial.group(b"a", b"b", b"c"))
        await journal.roll()
        await journal.append(trial.group(b"d"))
        trial.seq = 2
        (instead,) = await journal.cut(placed[1].at, trial.group(b"half of b"))
        assert instead.number == 2
        assert await payloads(journal) == [b"a", b"half of b"]
        assert journal.tip == (2, 3, instead.hash)
        await journal.append(trial.group(b"c again"))
        await prove(journal, [journal.tip])
    async with trial.open() as journal:
        assert await payloads(journal) == [b"a", b"half of b", b"c again"]
        await prove(journal)


async def cut_at_ends(trial: Trial) -> None:
    """Cut at a segment's beginning, at its end, and of everything."""
    async with trial.open() as journal:
        for text in (b"a", b"b", b"c"):
            await journal.append(trial.group(text))
            await journal.roll()
        await journal.cut(Position(journal.segments[2].number, 0))
        assert await payloads(journal) == [b"a", b"b"]
        await journal.append(trial.group(b"d"))
        await journal.cut(journal.end)
        assert await payloads(journal) == [b"a", b"b", b"d"]
        await prove(journal)
        await journal.cut(Position(journal.segments[0].number, 0))
        assert await payloads(journal) == []
        assert (journal.tip.number, journal.tip.next_seq) == (0, 0)
        trial.seq = 1
        await journal.append(trial.group(b"from the beginning"))
    async with trial.open() as journal:
        assert await payloads(journal) == [b"from the beginning"]
        await prove(journal)


async def cut_keeps_seals(trial: Trial) -> None:
    """A cut may take the frame that sealed a merged segment: it is sealed again."""
    async with trial.open() as journal:
        await journal.append(trial.group(b"a"))
        await journal.roll()
        await journal.append(trial.group(b"b"))
        end = journal.end
        async with journal.merge([journal.segments[0].number]) as merge:
            await merge.commit()
        await prove(journal)
        await journal.cut(end)
        await prove(journal)
        assert await payloads(journal) == [b"b"]
        await _refused(journal, Position(journal.segments[0].number, 0))
    async with trial.open() as journal:
        await prove(journal)


async def cut_elsewhere(trial: Trial) -> None:
    """A cut where no frame begins is refused, and changes nothing."""
    async with trial.open() as journal:
        (placed,) = await journal.append(trial.group(b"a" * 100))
        for at in (
            Position(placed.at.segment, placed.at.offset + 1),
            Position(placed.at.segment, placed.end.offset + 1),
            Position(10**9, 0),
        ):
            await _refused(journal, at)
        assert await payloads(journal) == [b"a" * 100]


async def _refused(journal: Journal, at: Position) -> None:
    segments = journal.segments
    try:
        await journal.cut(at)
    except ValueError:
        assert journal.segments == segments
        return
    raise AssertionError(f"cut at {at}, where no frame of the end begins")


STEPS = (cut_within, cut_at_ends, cut_keeps_seals, cut_elsewhere)
