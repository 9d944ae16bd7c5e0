"""Whatever a power cut leaves: what was durable is there, and what was not is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from i2core.api import StopRule
from i2core.api.journal import Journal, Position, Tip
from i2core.api.journal.frames import OVERHEAD_BYTES
from i2core.testing.journal.trial import Trial, payloads, prove

WRITTEN = [b"one", b"two" * 40, b"three"]


def _last_segment(trial: Trial) -> Path:
    """The file that frames are appended to."""
    segments = Path(os.fsdecode(trial.context.directory)) / "segments"
    return max(segments.iterdir(), key=lambda path: int(path.stem))


async def _torn(trial: Trial) -> tuple[int, Tip, bytes]:
    """Two groups. Returns the size and the tip after the first, and the bytes of the second."""
    async with trial.open() as journal:
        await journal.append(trial.group(WRITTEN[0]))
        size, tip = journal.end.offset, journal.tip
        await journal.append(trial.group(*WRITTEN[1:]))
    return size, tip, _last_segment(trial).read_bytes()[size:]


def _with_tail(trial: Trial, size: int, tail: bytes) -> None:
    with _last_segment(trial).open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(tail)


async def _whole_frames(trial: Trial, tip: Tip) -> int:
    """How many frames there are after opening; each is one that was written, and the next one can be appended."""
    async with trial.open(kept=tip) as journal:
        found = await payloads(journal)
        assert found == WRITTEN[: len(found)]
        await prove(journal, [tip])
        assert journal.end.offset == _last_segment(trial).stat().st_size
        trial.back_to(journal)
        await journal.append(trial.group(b"goes on"))
    async with trial.open() as journal:
        assert await payloads(journal) == [*found, b"goes on"]
        await prove(journal)
    return len(found)


async def test_cut_at_every_byte(trial: Trial) -> None:
    size, tip, tail = await _torn(trial)
    first_frame = len(tail) - (OVERHEAD_BYTES + len(WRITTEN[2]))
    for length in range(len(tail) + 1):
        _with_tail(trial, size, tail[:length])
        expected = 1 + (length >= first_frame) + (length == len(tail))
        assert await _whole_frames(trial, tip) == expected, f"cut after {length} bytes"


async def test_any_byte_of_the_last_group_not_written(trial: Trial) -> None:
    """A flipped bit, and zeros where a page did not reach the disk."""
    size, tip, tail = await _torn(trial)
    first_frame = len(tail) - (OVERHEAD_BYTES + len(WRITTEN[2]))
    for place in range(len(tail)):
        flipped = bytes([tail[place] ^ 1 << place % 8])
        _with_tail(trial, size, tail[:place] + flipped + tail[place + 1 :])
        assert await _whole_frames(trial, tip) == 1 + (place >= first_frame), f"byte {place} flipped"
    for place in range(0, len(tail), 7):
        _with_tail(trial, size, bytes(place) + tail[place:])
        assert await _whole_frames(trial, tip) == 1 if place else 3, f"{place} bytes are zero"


async def test_what_was_durable_is_never_taken_for_torn(trial: Trial) -> None:
    """Each byte before the last group: opening raises and touches nothing, with or without a known tip."""
    size, _, tail = await _torn(trial)
    whole = _last_segment(trial).read_bytes()
    for place in range(size):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        _last_segment(trial).write_bytes(damaged)
        with pytest.raises(StopRule) as caught:
            async with trial.open():
                pass
        assert caught.value.code.value == 3535
        assert _last_segment(trial).read_bytes() == damaged
    assert tail


async def test_the_known_tip_guards_the_last_group(trial: Trial) -> None:
    size, _, tail = await _torn(trial)
    async with trial.open() as journal:
        tip = journal.tip
    for length in (0, 50, len(tail) - 1):
        _with_tail(trial, size, tail[:length])
        with pytest.raises(StopRule, match=r"gone.*\[3535\]"):
            async with trial.open(kept=tip):
                pass
    _with_tail(trial, size, tail)
    async with trial.open(kept=tip) as journal:
        assert await payloads(journal) == WRITTEN


async def test_payloads_may_hold_frames_of_another_journal(trial: Trial, tmp_path: Path) -> None:
    """A torn frame whose payload is a copy of a journal is torn, not damaged."""
    other = attrs.evolve(trial, context=attrs.evolve(trial.context, directory=bytes(tmp_path / "other")))
    async with other.open() as journal:
        for number in range(5):
            await journal.append(other.group(b"%d" % number))
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
        tip = journal.tip
        await journal.append(trial.group(_last_segment(other).read_bytes()))
    os.truncate(_last_segment(trial), _last_segment(trial).stat().st_size - 1)
    async with trial.open(kept=tip) as journal:
        assert await payloads(journal) == [b"one"]


class _Steps:
    """Copies the journal's directory before each watched call."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.images: list[Trial] = []

    def watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, with a copy before."""

        def copied(*args: Any, **keywords: Any) -> Any:
            directory = self._trial.context.directory + b"-%d" % len(self.images)
            shutil.copytree(os.fsdecode(self._trial.context.directory), os.fsdecode(directory))
            self.images.append(
                attrs.evolve(self._trial, context=attrs.evolve(self._trial.context, directory=directory))
            )
            return call(*args, **keywords)

        return copied


async def _changed(trial: Trial, journal: Journal) -> AsyncIterator[str]:
    """Changes of all kinds that take more than one file."""
    first = [segment.number for segment in journal.segments]
    async with journal.merge(first[1:3]) as merge:
        trial.seq, trial.time_ns = 2, 10**18 + 100
        await merge.write(trial.group(b"merged"))
        await merge.commit(b"note")
    yield "merged"
    await journal.drop(first[:1])
    yield "dropped"
    trial.seq, trial.time_ns = 5, 10**18 + 1000
    await journal.cut(Position(journal.segments[-2].number, 0), trial.group(b"instead"))
    yield "cut"
    await journal.roll()
    yield "rolled"


async def test_every_change_is_one_step(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory as it is before each system call of each change: it opens as before the change, or as after it."""
    async with trial.open() as journal:
        for number in range(5):
            await journal.append(trial.group(b"%d" % number))
            await journal.roll()
        states, steps = [await payloads(journal)], _Steps(trial)
        for name in ("pwritev", "fsync", "fdatasync", "rename", "unlink", "ftruncate"):
            monkeypatch.setattr(os, name, steps.watched(getattr(os, name)))
        async for _ in _changed(trial, journal):
            states.append(await payloads(journal))
        monkeypatch.undo()
    assert states[-2:] == [[b"merged", b"3", b"instead"]] * 2
    assert len(steps.images) > 25
    reached = 0
    for image in steps.images:
        async with image.open() as journal:
            found = await payloads(journal)
            await prove(journal)
            files = os.listdir(os.path.join(image.context.directory, b"segments"))
            assert len(files) == len(journal.segments), "a file was left over"
        assert b"manifest.new" not in os.listdir(image.context.directory)
        assert states.index(found) >= reached, "went back"
        reached = states.index(found)
    assert reached == states.index(states[-1])


async def test_random_bytes_behind_the_end(trial: Trial) -> None:
    """What the disk held before at that place."""
    size, tip, _ = await _torn(trial)
    chance = Random(1)  # noqa: S311
    for _ in range(30):
        _with_tail(trial, size, chance.randbytes(chance.randrange(1, 5000)))
        assert await _whole_frames(trial, tip) == 1


async def test_a_crash_between_the_first_files(trial: Trial) -> None:
    """Nothing was promised yet: the journal begins again. With a frame in it, it does not."""
    home = Path(os.fsdecode(trial.context.directory))
    async with trial.open():
        pass
    (home / "manifest").unlink()
    async with trial.open() as journal:
        await journal.append(trial.group(b"one"))
    (home / "manifest").unlink()
    with pytest.raises(StopRule, match=r"missing.*\[3533\]"):
        async with trial.open():
            pass
