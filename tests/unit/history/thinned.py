"""The life of a history that is thinned out by the clock, by a seed: every moment that the note promises reads as it
was, also when the runner is killed at any step, or a power cut comes.

python -m tests.unit.history.thinned FIRST COUNT
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from i2_store_cdp.journal import open_journal

from i2core.api import NoConfig
from i2core.api.journal import Journal, JournalContext
from i2core.config.model import CdpRetention
from i2core.history.index.schema import TABLES
from i2core.history.retention import giving_up
from i2core.history.retention.terms import Terms
from i2core.history.retention.thinner import Thinner
from i2core.testing.memory_journal import memory_journal
from i2core.testing.memory_shelf import MemoryShelf

from .histories import Records
from .joined import HOUR_NS, Joined, Killed
from .seeds import play, seeded

SEGMENT_BYTES = 600
MakeJournal = Callable[[str], Callable[[], AbstractAsyncContextManager[Journal]]]


class Lived(NamedTuple):
    """What a life came to."""

    moments: int
    """Whole trees that were compared."""
    kills: int
    merged: int
    """Merged segments that were seen."""
    dropped: int
    """Segments that were dropped or merged away."""


def in_memory(directory: str) -> Callable[[], AbstractAsyncContextManager[Journal]]:
    """A journal in memory."""
    spec = memory_journal(MemoryShelf())
    context = JournalContext(directory=os.fsencode(directory), segment_bytes=SEGMENT_BYTES)
    return lambda: spec.open(NoConfig(), context)


def in_files(directory: str) -> Callable[[], AbstractAsyncContextManager[Journal]]:
    """A journal in files."""
    context = JournalContext(directory=os.fsencode(directory), segment_bytes=SEGMENT_BYTES, reserve_bytes=0)
    return lambda: open_journal(context)


class Life:
    """One life."""

    def __init__(self, seed: int, directory: str, make: MakeJournal) -> None:
        self.seed, self.rng = seed, random.Random(seed)  # noqa: S311
        index = os.path.join(directory, "index")
        os.mkdir(index)
        self.world = Joined(self.rng, index, make(os.path.join(directory, "journal")))
        rng = self.rng
        policy = CdpRetention(detailed_days=1, daily=rng.randrange(4), monthly=rng.randrange(2))
        self.world.terms = Terms(policy=policy)
        giving_up._SLICE_S = 0.0 if rng.random() < 0.5 else 0.05  # a kill may come after each step of a sweep
        self.kills_at_all = rng.random() < 0.7
        self.moments = self.kills = self.merged = self.dropped = 0

    def live(self, rounds: int) -> Lived:
        world, rng = self.world, self.rng
        records = Records(rng, world.disk)
        world.begin()
        try:
            for number in range(rounds):
                for _ in range(rng.randrange(1, 7)):
                    world.pass_time(rng.randrange(8 * HOUR_NS))
                    world.apply([record for _ in range(rng.randrange(4)) for record in records.some()])
                if rng.random() < 0.7:
                    world.flush()
                self._thin()
                self._read(number)
            self._end()
        finally:
            world.close()
        return Lived(self.moments, self.kills, self.merged, self.dropped)

    def _thin(self) -> None:
        world = self.world
        before = {segment.number for segment in world.of_world.journal.segments}
        while self.kills_at_all and self.rng.random() < 0.6:
            world.fuse.left = int(2 ** self.rng.uniform(0, 7))
            try:
                world.retained(self._once)
            except Killed:
                self.kills += 1
                world.crash()
                self._read("killed")
            world.fuse.left = 1 << 30
            if self.rng.random() < 0.7:
                world.flush()
        world.retained(self._once)
        now = world.of_world.journal.segments
        self.merged += sum(segment.merged for segment in now)
        self.dropped += len(before - {segment.number for segment in now})

    async def _once(self, thinner: Thinner) -> None:
        await thinner.run_once(lambda code, text: None)
        assert thinner.objective().is_met, (thinner.objective(), thinner.promise.state)

    def _read(self, *where: object) -> None:
        world, kept = self.world, self.world.kept()
        assert kept.floor <= world.durable, "what is not durable was given up"
        present = range(kept.floor, world.seq + 1)
        for seq in [*kept.marks, kept.floor, world.seq, *self.rng.sample(present, min(2, len(present)))]:
            world.check(seq, (self.seed, *where, seq, kept))
            self.moments += 1

    def _end(self) -> None:
        """All is given up: index, store and journal are empty, and the present is as it was."""
        world = self.world
        world.flush()

        async def trim(thinner: Thinner) -> None:
            await thinner.trim(world.seq)

        world.retained(trim)
        world.check(world.seq, (self.seed, "end"))
        journal = world.of_world.journal
        assert [segment.next_seq - segment.first_seq for segment in journal.segments] == [0], self.seed
        assert not world.disk.store.entries, (self.seed, world.disk.store.entries.keys())
        left = [(table.name, row) for part in world.index.every() for table in TABLES for row in part.stream(table)]
        assert not left, (self.seed, left)
        assert not world.disk.open_handles, self.seed


def live(seed: int, make: MakeJournal = in_memory, *, rounds: int = 8) -> Lived:
    """One life."""
    with seeded(seed) as directory:
        return Life(seed, directory, make).live(rounds)


if __name__ == "__main__":
    play(live)
