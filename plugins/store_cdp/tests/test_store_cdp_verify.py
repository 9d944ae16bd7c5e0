"""Whoever changes the bytes of a journal is found out, and where."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from i2_store_cdp.segment_head import SEGMENT_HEAD_BYTES

from i2core.api import StopRule
from i2core.api.journal import Fault, FaultKind, Journal, Placed, Position, Tip, find_faults
from i2core.testing.journal.trial import Trial, payloads


@pytest.fixture
def segments(trial: Trial) -> Path:
    """Where the segments' files are."""
    return Path(os.fsdecode(trial.context.directory)) / "segments"


async def _faults(journal: Journal, kept: Sequence[Tip] = ()) -> list[Fault]:
    told = journal.segments
    numbers = [tip.number for tip in kept]
    return find_faults(told, [await journal.inspect(segment.number, numbers) for segment in told], kept)


async def _filled(trial: Trial, journal: Journal) -> list[Placed]:
    """Segment 1 with four frames, 2 with one, 4 merged of two more, 5 with one and a seal."""
    placed = await journal.append(trial.group(b"a" * 50, b"b" * 50, b"c" * 50, b"d" * 50))
    await journal.roll()
    for _ in range(3):
        await journal.append(trial.group(b"e"))
        await journal.roll()
    at = trial.seq, trial.time_ns
    trial.seq, trial.time_ns = 1, 10**18
    async with journal.merge([segment.number for segment in journal.segments[2:4]]) as merge:
        await merge.write(trial.group(b"merged", b"twice"))
        await merge.commit()
    trial.seq, trial.time_ns = at
    await journal.append(trial.group(b"f"))
    return placed


async def test_every_flipped_bit(trial: Trial, segments: Path) -> None:
    """In each segment, each byte: found in the frame that it belongs to, and once."""
    async with trial.open() as journal:
        await _filled(trial, journal)
        assert await _faults(journal) == []
        for segment in journal.segments:
            path = segments / f"{segment.number}.seg"
            whole = path.read_bytes()
            starts = [0] + [f.placed.at.offset for f in await journal.read(_begin(segment.number), 1 << 20)]
            for place in range(len(whole)):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
                # A seal in a damaged frame seals nothing: its merged segment is not proved any more.
                faults = [fault for fault in await _faults(journal) if fault.kind is not FaultKind.UNSEALED]
                assert len(faults) == 1, f"byte {place} of {path.name}: {faults}"
                assert faults[0].kind is FaultKind.DAMAGED
                assert faults[0].at.segment == segment.number
                if segment.number != journal.segments[-1].number:  # it has a frame of the journal's own as well
                    assert faults[0].at.offset == max(start for start in starts if start <= place)
            path.write_bytes(whole)
        assert await _faults(journal) == []


async def test_dropped_swapped_doubled_and_cut_frames(trial: Trial, segments: Path) -> None:
    async with trial.open() as journal:
        placed = await _filled(trial, journal)
        path = segments / "1.seg"
        whole = path.read_bytes()
        head = whole[:SEGMENT_HEAD_BYTES]
        a, b, c, d = (whole[p.at.offset : p.end.offset] for p in placed)
        for frames, kind, index in (
            ([a, c, d], FaultKind.MISSING, 1),
            ([b, c, d], FaultKind.MISSING, 0),
            ([a, b, c], FaultKind.DAMAGED, 3),
            ([a, c, b, d], FaultKind.MISSING, 1),
            ([a, a, c, d], FaultKind.ORDER, 1),
            ([a, b, c, d[:-1]], FaultKind.DAMAGED, 3),
            ([], FaultKind.DAMAGED, 0),
        ):
            path.write_bytes(b"".join([head, *frames]))
            faults = await _faults(journal)
            assert faults, f"{kind} at {index} was not found"
            assert (faults[0].kind, faults[0].at) == (kind, placed[index].at), faults
            assert faults[0].next_seq == (index + 1 if index else 0)
        path.unlink()
        (fault,) = await _faults(journal)
        assert (fault.kind, fault.at) == (FaultKind.MISSING, _begin(1))


async def test_frames_of_another_history(trial: Trial, segments: Path) -> None:
    """Whole frames with the right numbers, which were cut off once and come back."""
    async with trial.open() as journal:
        placed = await journal.append(trial.group(b"a", b"old"))
        old = (segments / "1.seg").read_bytes()[placed[1].at.offset :]
        trial.seq = 2
        await journal.cut(placed[1].at, trial.group(b"new"))
        await journal.append(trial.group(b"more"))
        path = segments / "2.seg"
        whole = path.read_bytes()
        path.write_bytes(whole[:SEGMENT_HEAD_BYTES] + old + whole[SEGMENT_HEAD_BYTES + len(old) :])
        faults = await _faults(journal)
        assert faults
        assert faults[0].at.segment == 2


async def test_another_merged_segment(trial: Trial, segments: Path) -> None:
    """One that the same software made of the same run with other content: the chain has not sealed it."""
    async with trial.open() as journal:
        await _filled(trial, journal)
        number = next(segment.number for segment in journal.segments if segment.merged)
        path = segments / f"{number}.seg"
        second = await journal.read(_begin(number), 1 << 20)
        whole = path.read_bytes()
        path.write_bytes(whole[: second[1].placed.at.offset])
        faults = await _faults(journal)
        assert faults
        assert faults[0].at.segment == number


async def test_kept_tips(trial: Trial) -> None:
    """A tip of each kind: in a live segment, at its end, within a merged one, and of what was cut off."""
    async with trial.open() as journal:
        placed = await _filled(trial, journal)
        good = [Tip(p.number, p.number + 1, p.hash) for p in placed] + [journal.tip]
        assert await _faults(journal, good) == []
        (fault,) = await _faults(journal, [*good, Tip(2, 3, bytes(32))])
        assert (fault.kind, fault.frame) == (FaultKind.ORDER, 2)
        (fault,) = await _faults(journal, [*good, Tip(99, 100, bytes(32))])
        assert fault.kind is FaultKind.CUT


async def test_damage_is_never_read_as_data(trial: Trial, segments: Path) -> None:
    async with trial.open() as journal:
        placed = await journal.append(trial.group(b"a" * 100, b"b" * 100))
        path = segments / "1.seg"
        whole = bytearray(path.read_bytes())
        whole[placed[1].payload_at.offset] ^= 1
        path.write_bytes(whole)
        assert [frame.payload for frame in await journal.read(placed[0].at, 1 << 20)] == [b"a" * 100]
        with pytest.raises(StopRule, match="3535"):
            await journal.read(placed[1].at, 1 << 20)
        with pytest.raises(StopRule, match="3535"):
            await payloads(journal)


async def test_large_payloads_are_searched_for_what_follows(trial: Trial, segments: Path) -> None:
    """A broken header hides where its frame ends: the next frame is found behind megabytes of anything."""
    chance = Random(1)  # noqa: S311
    async with trial.open() as journal:
        big = b"i2fr" * 1000 + chance.randbytes(3_000_000)
        placed = await journal.append(trial.group(big, b"after"))
        path = segments / "1.seg"
        whole = bytearray(path.read_bytes())
        whole[placed[0].at.offset + 8] ^= 1
        path.write_bytes(whole)
        (fault,) = await _faults(journal)
        assert (fault.kind, fault.at) == (FaultKind.DAMAGED, placed[0].at)
        assert (await journal.inspect(1)).frames == 1


def _begin(number: int) -> Position:
    return Position(number, 0)
