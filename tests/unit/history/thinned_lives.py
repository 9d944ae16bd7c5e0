"""As `recorded_lives`, with the runner of retention beside the records: it begins a pass while records are applied, and
the power may fail at any step of both.

python -m tests.unit.history.thinned_lives FIRST COUNT
"""

from __future__ import annotations

import datetime
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio

from i2core.api import LinkError, StopRule
from i2core.api.journal import JournalFull
from i2core.api.journal import Merge as MergedSegment
from i2core.config.model import CdpRetention
from i2core.history.record.clock import Reading
from i2core.history.retention import thinner as runner
from i2core.history.retention.policy import DAY_NS, Days
from i2core.history.retention.state import kept_of
from i2core.history.retention.thinner import Keeping, Terms, Thinner
from i2core.testing.journal import MemoryJournal

from . import recorded, recorded_lives
from .lives import MEMORY
from .past_trees import Moment
from .recorded import PowerCut
from .recorded_lives import Lived

HOUR_NS = DAY_NS // 24


class MergingJournal(recorded.PoweredJournal):
    """The power may fail before and after each change that retention makes."""

    async def _changed(self, work: Any) -> Any:
        self.power.tick()
        done = await work()
        self.power.tick()
        return done

    async def annotate(self, note: bytes) -> None:
        await self._changed(lambda: MemoryJournal.annotate(self, note))

    async def mark(self, *args: Any) -> None:
        await self._changed(lambda: MemoryJournal.mark(self, *args))

    async def drop(self, run: Sequence[int], note: bytes | None = None) -> None:
        await self._changed(lambda: MemoryJournal.drop(self, run, note))

    @asynccontextmanager
    async def merge(self, run: Sequence[int]) -> AsyncIterator[MergedSegment]:
        async with MemoryJournal.merge(self, run) as target:
            write, commit = target.write, target.commit
            powered: Any = target
            powered.write = lambda group: self._changed(lambda: write(group))
            powered.commit = lambda note: self._changed(lambda: commit(note))
            yield target


class World(recorded.Recorded):
    """Its clock goes on with each look."""

    make_journal = MergingJournal

    def __init__(self, rng: random.Random, directory: str, *, tail_rows: int) -> None:
        super().__init__(rng, directory, tail_rows=tail_rows)
        self.passed_ns = 0

    def _clocks(self) -> Reading:
        self.passed_ns += self.rng.randrange(2 * HOUR_NS)
        return Reading(recorded.START_NS + self.passed_ns, bytes([self.boot]) * 16, self.passed_ns)

    def lose_index(self) -> None:
        """After a merge it cannot be made again."""

    def check(self, seq: int, where: object) -> None:
        with self.history.reading:
            super().check(seq, where)


class Reader(Moment):
    """Reads in turn."""

    def __init__(self, world: World, seq: int) -> None:
        self._world, self._has_turn = world, False
        with self._turn():
            super().__init__(world, seq)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if self._has_turn:
            yield
            return
        with self._world.history.reading:
            self._has_turn = True
            yield
            self._has_turn = False

    def open(self) -> None:
        with self._turn():
            super().open()

    def check(self, where: object) -> None:
        with self._turn():
            super().check(where)

    def close(self) -> None:
        with self._turn():
            super().close()


class Life(recorded_lives.Life):
    """One life."""

    make_reader: Any = Reader

    def __init__(self, seed: int, directory: str) -> None:
        super().__init__(seed, directory)
        self._pinned: int | None = None
        self.world: World = World(self.rng, directory, tail_rows=self.rng.choice((1, 40, 10**6)))
        self.records.disk = self.world.disk
        policy = CdpRetention(detailed_days=1, daily=self.rng.randrange(1, 4), monthly=self.rng.randrange(2))
        self.terms = Terms(policy=policy)

    async def _day(self, where: object) -> None:
        thinner = await Thinner.begin(self.world.history, Keeping(terms=lambda: self.terms, days=Days(datetime.UTC)))
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self.rng.randrange(3)):
                    nursery.start_soon(self._thin, thinner)
                await super()._day(where)
                if self.rng.random() < 0.3:
                    nursery.cancel_scope.cancel()
        except* PowerCut:
            raise PowerCut from None
        finally:
            self._pinned = None

    async def _thin(self, thinner: Thinner) -> None:
        for _ in range(self.rng.randrange(4)):
            await trio.lowlevel.checkpoint()
        try:
            await thinner.run_once(lambda code, text: None)
        except (JournalFull, LinkError):
            pass  # the recorder is broken, or had no room
        except StopRule:
            if not self.world.power.is_off:
                raise

    async def _work(self, where: object) -> None:
        """Whatever is read meanwhile is pinned."""
        self._pinned = self._any_moment()
        with self.world.history.pins.pin(self._pinned):
            await super()._work(where)
        self._pinned = None

    def _moment(self) -> int:
        return self._any_moment() if self._pinned is None or self.rng.random() < 0.5 else self._pinned

    def _any_moment(self) -> int:
        world = self.world
        kept = kept_of(world.history.journal)
        assert world.durable is None or kept.floor <= world.durable.seq, "what is not durable was given up"
        seq: int = self.rng.choice([*kept.marks, *range(kept.floor, world.seq + 1)])
        return seq


def live(seed: int, rounds: int = 10) -> Lived:
    """One life."""
    with tempfile.TemporaryDirectory(prefix="i2-thinned-", dir=MEMORY) as directory:
        try:
            life = Life(seed, directory)
            runner._SLICE_S = life.rng.choice((0.0, 0.05))
            with life.world.watched():
                return trio.run(life.live, rounds)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


if __name__ == "__main__":
    import sys
    import time

    first, count = int(sys.argv[1]), int(sys.argv[2])
    began = time.monotonic()
    lives = [live(seed) for seed in range(first, first + count)]
    print(Lived(*map(sum, zip(*lives, strict=True))), f"{time.monotonic() - began:.1f} s")
