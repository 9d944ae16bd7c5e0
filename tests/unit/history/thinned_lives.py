"""As `recorded_lives`, with the runner of retention beside the records: it begins a pass while records are applied, and
the power may fail at any step of both.

python -m tests.unit.history.thinned_lives FIRST COUNT
"""

from __future__ import annotations

import datetime
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import trio

from i2core.api import LinkError, StopRule
from i2core.api.journal import JournalFull
from i2core.api.journal import Merge as MergedSegment
from i2core.config.model import CdpRetention
from i2core.history.record.clock import Reading
from i2core.history.retention import giving_up
from i2core.history.retention.policy import DAY_NS, Days
from i2core.history.retention.state import kept_of
from i2core.history.retention.terms import Keeping, Terms
from i2core.history.retention.thinner import Thinner
from i2core.testing.journal import MemoryJournal

from . import recorded, recorded_lives
from .past_trees import Moment
from .recorded import PowerCut
from .recorded_lives import Lived
from .seeds import in_order, in_parts, play, seeded

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
    """Reads in turn, and pins what it reads until it is closed."""

    def __init__(self, world: World, seq: int) -> None:
        self._world, self._has_turn, self._pinned = world, False, ExitStack()
        self._pinned.enter_context(world.history.pins.pin(seq))
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
        self._pinned.close()


class Life(recorded_lives.Life):
    """One life."""

    make_reader: Any = Reader

    def __init__(self, seed: int, directory: str) -> None:
        super().__init__(seed, directory)
        self.world: World = World(self.rng, directory, tail_rows=self.rng.choice((1, 40, 10**6)))
        self.records.disk = self.world.disk
        policy = CdpRetention(detailed_days=1, daily=self.rng.randrange(1, 4), monthly=self.rng.randrange(2))
        self.terms = Terms(policy=policy)

    async def _day(self, where: object) -> None:
        thinner = await Thinner.begin(self.world.history, Keeping(terms=lambda: self.terms, days=Days(datetime.UTC)))
        cut = False
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(self.rng.randrange(3)):
                    nursery.start_soon(self._thin, thinner)
                await super()._day(where)
                if self.rng.random() < 0.3:
                    nursery.cancel_scope.cancel()
        except* PowerCut:
            cut = True  # what is raised here would become a group in some versions of Python
        if cut:
            raise PowerCut

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

    def _moment(self) -> int:
        world = self.world
        kept = kept_of(world.history.journal)
        assert world.durable is None or kept.floor <= world.durable.seq, "what is not durable was given up"
        seq: int = self.rng.choice([*kept.marks, *world.history.pins.moments, *range(kept.floor, world.seq + 1)])
        return seq


def live(seed: int, rounds: int = 10) -> Lived:
    """One life."""
    with seeded(seed) as directory:
        life = Life(seed, directory)
        giving_up._SLICE_S = life.rng.choice((0.0, 3600.0))  # after each step, or never
        with life.world.watched(), in_order(seed), in_parts(seed):
            return trio.run(life.live, rounds)


if __name__ == "__main__":
    play(live)
