"""A journal is verified beside its work, with progress; every kind of fault has words in both languages."""

from __future__ import annotations

import pytest
import trio

from i2core.api import NoConfig
from i2core.api.journal import Fault, FaultKind, JournalContext, Position, Tip
from i2core.history.journal.verify import Progress, fault_text, verify
from i2core.testing.journal.trial import Trial
from i2core.testing.memory_journal import memory_journal


@pytest.fixture
def trial() -> Trial:
    return Trial(memory_journal(), NoConfig(), JournalContext(directory=b"/cdp"))


async def test_a_whole_journal_has_no_faults(trial: Trial) -> None:
    async with trial.open() as journal:
        for number in range(4):
            await journal.append(trial.group(b"x" * number))
            await journal.roll()
        reports: list[Progress] = []
        assert await verify(journal, [journal.tip], reports.append) == []
        assert len(reports) == len(journal.segments) + 1
        assert reports == sorted(reports)
        assert reports[-1].done_bytes == reports[-1].all_bytes > 0


async def test_a_cut_end_is_found(trial: Trial) -> None:
    async with trial.open() as journal:
        await journal.append(trial.group(b"a"))
        (fault,) = await verify(journal, [Tip(7, 8, bytes(32))])
        assert fault.kind is FaultKind.CUT


async def test_segments_are_merged_and_frames_appended_meanwhile(trial: Trial) -> None:
    async with trial.open() as journal:
        for _ in range(5):
            await journal.append(trial.group(b"a"))
            await journal.roll()

        async def work() -> None:
            async with journal.merge([segment.number for segment in journal.segments[:3]]) as merge:
                await merge.commit()
            await journal.append(trial.group(b"b"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            assert await verify(journal, [journal.tip]) == []
        assert await verify(journal, [journal.tip]) == []


@pytest.mark.parametrize("kind", FaultKind)
def test_every_fault_is_told_in_both_languages(kind: FaultKind) -> None:
    text = fault_text(Fault(kind, Position(3, 200), 17, 99))
    assert "3" in text.en
    assert "17" in text.en
    assert text.en != text.zh
