"""All at once, in real threads: appending, reading, merging, dropping, verifying. And damage of any kind, anywhere."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from random import Random

import attrs
import trio

from i2core.api import StopRule
from i2core.api.journal import Draft, Journal, Piece, Position, SegmentGone, all_frames, find_faults
from i2core.testing.journal.trial import Trial, prove

_GROUPS = 150


@attrs.define
class _Together:
    """One journal, and who works on it."""

    trial: Trial
    journal: Journal
    chance: Random
    done: trio.Event = attrs.field(factory=trio.Event)

    async def write(self) -> None:
        for _ in range(_GROUPS):
            count, size = self.chance.randint(1, 3), self.chance.choice((0, 3000))
            await self.journal.append([self.trial.draft(b"%d " % self.trial.seq + bytes(size)) for _ in range(count)])
        self.done.set()

    async def read(self) -> None:
        """What is read goes on without a gap, to what was durable when the reader began at least."""
        while not self.done.is_set():
            durable, seen = self.journal.tip.next_seq, list[int]()
            with suppress(SegmentGone):  # dropped between the list of segments and the lease
                async for page in all_frames(self.journal, most_bytes=5000):
                    for frame in page:
                        assert int(frame.payload.split()[0]) == frame.header.first_seq
                        seen.append(frame.header.first_seq)
                    at, size = page[-1].placed.payload_at, page[-1].placed.payload_bytes
                    assert await self.journal.pieces([Piece(at, size)]) == [page[-1].payload]
                assert seen == list(range(seen[0], seen[-1] + 1)) if seen else True
                assert not seen or seen[-1] >= durable - 1

    async def merge(self) -> None:
        while not self.done.is_set():
            await trio.sleep(0.002)
            closed = [segment.number for segment in self.journal.segments[:-1]]
            if len(closed) < 3:
                continue
            run = closed[1:3]
            with suppress(SegmentGone):
                frames = [frame for number in run for frame in await self.journal.read(Position(number, 0), 1 << 30)]
                async with self.journal.merge(run) as merge:
                    await merge.write([Draft(frame.header, frame.payload) for frame in frames])
                    await merge.commit()

    async def drop(self) -> None:
        while not self.done.is_set():
            await trio.sleep(0.01)
            if len(self.journal.segments) > 4:
                with suppress(SegmentGone):  # merged while this waited for its turn
                    await self.journal.drop([self.journal.segments[0].number])

    async def verify(self) -> None:
        while not self.done.is_set():
            segments, tip = self.journal.segments, self.journal.tip
            with suppress(SegmentGone):
                async with self.journal.lease([segment.number for segment in segments]):
                    found = [await self.journal.inspect(segment.number, [tip.number]) for segment in segments]
                assert find_faults(segments, found) == []


async def test_all_at_once(trial: Trial) -> None:
    async with trial.open(segment_bytes=20_000) as journal:
        work = _Together(trial, journal, Random(3))  # noqa: S311
        async with trio.open_nursery() as nursery:
            for job in (work.write, work.read, work.read, work.merge, work.drop, work.verify):
                nursery.start_soon(job)
        await prove(journal, [journal.tip])
        segments = {segment.number for segment in journal.segments}
        files = {int(name.split(b".")[0]) for name in os.listdir(trial.context.directory + b"/segments")}
        assert files == segments, "a file was kept, or removed, that should not have been"


async def test_any_damage_is_a_stop_and_never_a_crash(trial: Trial, tmp_path: Path) -> None:
    """Bytes of any file changed, cut, doubled or gone: opening, reading and verifying raise StopRule or go on."""
    chance = Random(11)  # noqa: S311
    async with trial.open(segment_bytes=2000) as journal:
        for number in range(12):
            await journal.append(trial.group(b"%d" % number * chance.choice((1, 200))))
            if number % 3 == 2:
                await journal.roll()
        async with journal.merge([segment.number for segment in journal.segments[:2]]) as merge:
            await merge.commit()
    whole = Path(os.fsdecode(trial.context.directory))
    opened = 0
    for number in range(150):
        copy = tmp_path / "copy"
        shutil.copytree(whole, copy)
        for path in chance.sample(sorted(path for path in copy.rglob("*") if path.is_file()), 2):
            _damage(path, chance)
        with suppress(StopRule):
            async with trial.open(directory=bytes(copy)) as journal:
                opened += 1
                await _touch_everything(journal)
        shutil.rmtree(copy)
        assert opened <= number + 1
    assert opened > 20


def _damage(path: Path, chance: Random) -> None:
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content) + 1)
    match chance.randrange(5):
        case 0:
            content[place : place + chance.randint(1, 40)] = chance.randbytes(chance.randint(0, 40))
        case 1:
            del content[place:]
        case 2:
            content += content[place:]
        case 3:
            path.unlink()
            return
        case _:
            content[place:] = bytes(len(content) - place)
    path.write_bytes(content)


async def _touch_everything(journal: Journal) -> None:
    segments = journal.segments
    find_faults(segments, [await journal.inspect(segment.number) for segment in segments], [journal.tip])
    for segment in segments:
        with suppress(StopRule):
            await journal.read(Position(segment.number, 0), 1 << 20)
