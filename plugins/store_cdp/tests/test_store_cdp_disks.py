"""Power cuts on real file systems: after a cut at any write to the disk, all is there that was promised before it."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from random import Random

import attrs
import pytest

from i2core.api.journal import Draft, Journal, Position, Tip
from i2core.testing.journal.trial import Trial, payloads, prove
from i2core.testing.power import RecordedDisk, crash_image, mounted_image, recorded_disk

_CUTS = 60


@attrs.define
class _Promise:
    """What is true for each cut from a place of the record on, until the next promise."""

    position: int
    states: list[list[bytes]]
    """The state that was reached, and those that the next change may already have reached."""
    tip: Tip | None


@attrs.define
class _Work:
    """Changes a journal, and writes down what was promised when."""

    trial: Trial
    journal: Journal
    disk: RecordedDisk
    chance: Random
    promises: list[_Promise] = attrs.field(factory=list)

    async def run(self) -> None:
        """Appends, merges and cuts."""
        self._promised([])
        for number in range(30):
            await self._append()
            if number % 5 == 4:
                await self._merge()
            if number % 7 == 6:
                await self._cut()

    def _promised(self, found: list[bytes]) -> None:
        self.promises.append(_Promise(self.disk.position, [found], self.journal.tip))

    async def _append(self) -> None:
        found = await payloads(self.journal)
        group = self.trial.group(*(self.chance.randbytes(self.chance.choice((10, 3000))) for _ in range(3)))
        texts = [bytes(draft.payload) for draft in group]
        self.promises[-1].states += [found + texts[:count] for count in range(1, 4)]
        await self.journal.append(group)
        self._promised(found + texts)

    async def _merge(self) -> None:
        await self.journal.roll()
        run = [segment.number for segment in self.journal.segments[:-1]]
        kept = (await self.journal.read(Position(run[0], 0), 1))[:1]
        after = [frame.payload for frame in kept]
        self.promises[-1].states.append(after)
        async with self.journal.merge(run) as merge:
            await merge.write([Draft(frame.header, frame.payload) for frame in kept])
            await merge.commit()
        self._promised(after)

    async def _cut(self) -> None:
        found = await payloads(self.journal)
        frames = await self.journal.read(Position(self.journal.segments[-1].number, 0), 1 << 20)
        self.trial.seq = frames[-1].header.first_seq
        after = [*found[:-1], b"instead"]
        self.promises[-1].states.append(after)
        self.promises[-1].tip = None  # the cut may have taken it
        await self.journal.cut(frames[-1].placed.at, self.trial.group(b"instead"))
        self._promised(after)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
async def test_power_cuts_on_real_file_systems(kind: str, trial: Trial, tmp_path: Path) -> None:
    chance, recorded = Random(5), tmp_path / "recorded"  # noqa: S311
    recorded.mkdir()
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(recorded_disk(recorded, kind))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this host cannot record a disk with {kind}: {error}")
        directory = bytes(disk.mount / "cdp")
        trial.context = attrs.evolve(trial.context, directory=directory, segment_bytes=20_000)
        async with trial.open() as journal:
            work = _Work(trial, journal, disk, chance)
            await work.run()
        records = disk.records()
    first = next(index for index, record in enumerate(records) if record.end >= work.promises[0].position)
    for number in range(_CUTS):
        cut = chance.randint(first + 1, len(records))
        promise = [each for each in work.promises if each.position <= records[cut - 1].end][-1]
        crash_image(disk.base, records, cut, chance, tmp_path / "image")
        with mounted_image(tmp_path / "image", kind, tmp_path / "crashed") as mount:
            async with trial.open(directory=os.fsencode(mount / "cdp"), kept=promise.tip) as journal:
                assert await payloads(journal) in promise.states, f"cut {number} behind {cut} of {len(records)} writes"
                await prove(journal)
