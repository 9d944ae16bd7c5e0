"""The life of one replica whose history the `Recorder` writes, by a seed."""

from __future__ import annotations

import random
from typing import NamedTuple

import trio

from i2core.api.records import Record
from i2core.history.plan.step import Change, Step

from .histories import Records
from .past_trees import Moment
from .recorded import PowerCut, Recorded
from .seeds import in_order, in_parts, play, seeded


class Lived(NamedTuple):
    """What lives came to."""

    records: int
    moments: int
    cuts: int
    indexes: int
    """Indexes that were lost, and made again."""


class Life:
    """One life: the history is opened again and again."""

    make_reader = Moment

    def __init__(self, seed: int, directory: str) -> None:
        self.seed, self.rng = seed, random.Random(seed)  # noqa: S311
        self.world = Recorded(self.rng, directory, tail_rows=self.rng.choice((1, 40, 10**6)))
        self.records = Records(self.rng, self.world.disk)
        self.crashes = self.rng.random() < 0.7
        self.fails = self.rng.random() < 0.5
        self.moments = self.cuts = self.indexes = 0

    async def live(self, rounds: int) -> Lived:
        self._before()
        for number in range(rounds):
            self.world.failures = self.fails
            if self.crashes and self.rng.random() < 0.7:
                self.world.power.left = self.rng.randrange(120)
            try:
                async with self.world.opened():
                    await self._day((self.seed, number))
            except PowerCut:
                self.cuts += 1
            self.world.restart(lost=self.world.power.is_off and self.rng.random() < 0.6)
            if self.world.durable is not None and self.rng.random() < 0.1:
                self.world.lose_index()
                self.indexes += 1
        self.world.failures = False
        async with self.world.opened():
            self._read(8, "at the end")
            await self.world.flush()
        assert not self.world.disk.open_handles
        return Lived(self.world.seq, self.moments, self.cuts, self.indexes)

    def _before(self) -> None:
        for _ in range(self.rng.randrange(25)):
            for record in self.records.some():
                for _ in self.world.sink._steps.carry_out(Step(0, Change(record, 0))):
                    pass

    async def _day(self, where: object) -> None:
        """The replica is as it was at the durable position, and goes on from there."""
        world = self.world
        assert world.durable is not None
        assert world.seq == world.durable.seq
        world.check_present((where, "opened", world.seq))
        self._read(2, where, "opened")
        for _ in range(self.rng.randrange(1, 8)):
            await self._work(where)
            if self.rng.random() < 0.4:
                await world.flush()
        if self.rng.random() < 0.8:
            await world.flush()

    async def _work(self, where: object) -> None:
        world = self.world
        reader = self.make_reader(world, self._moment()) if self.rng.random() < 0.3 else None
        if reader is not None and self.rng.random() < 0.7:
            reader.open()
        await world.apply([record for _ in range(self.rng.randrange(1, 5)) for record in self._some()])
        if reader is not None:
            reader.check((where, "an open tree", world.seq))
            reader.close()
            self.moments += 1
        self._read(1, where)

    def _moment(self) -> int:
        """One that can be read."""
        return self.rng.randrange(self.world.seq + 1)

    def _some(self) -> list[Record]:
        return self.records.some()

    def _read(self, moments: int, *where: object) -> None:
        for _ in range(moments):
            seq = self._moment()
            self.world.check(seq, (*where, "moment", seq, "of", self.world.seq))
            self.moments += 1


def live(seed: int, rounds: int = 6) -> Lived:
    """One life."""
    with seeded(seed) as directory:
        life = Life(seed, directory)
        with life.world.watched(), in_order(seed), in_parts(seed):
            return trio.run(life.live, rounds)


if __name__ == "__main__":
    play(live)
