"""The life of one replica with its history, by a seed: records of all kinds, crashes, merges; all that can be read is
compared with full copies."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator
from typing import NamedTuple

from i2core.api.records import Record
from i2core.history.index.schema import TABLES
from i2core.history.plan.step import Change, Step
from i2core.history.read.difference import Difference
from i2core.history.retention.kept import Kept
from i2core.testing.memory_replica import DIRECTORY, Inode

from .copies import compare, full_copy
from .disk import Disk
from .histories import Records
from .objects import visible_change
from .past_trees import Moment
from .seeds import play, seeded
from .world import World


class Lived(NamedTuple):
    """What a life came to."""

    records: int
    rows: int
    moments: int
    """Whole trees that were compared."""
    cuts: int


class Life:
    """One life in three rounds."""

    def __init__(self, seed: int, directory: str, make_disk: Callable[[random.Random], Disk]) -> None:
        self.seed, self.rng = seed, random.Random(seed)  # noqa: S311
        self.world = World(self.rng, directory, make_disk=make_disk)
        self.records = Records(self.rng, self.world.disk)
        self.crashes = self.rng.random() < 0.5
        self.world.failures = self.rng.random() < 0.3
        self.world.flushes_early = seed % 10 == 9
        self.kept = Kept()
        self.readers = random.Random(seed)  # noqa: S311
        """Who reads a moment as a tree beside the records. Chosen apart, so that the life is the same without them."""
        self.moments = self.cuts = 0

    def live(self, length: int, moments: int) -> Lived:
        self._before()
        for number in range(3):
            for _ in range(length // 9):
                self._work()
            self.world.flush()
            if self.rng.random() < 0.6:
                self._rewind()
            self._read(moments, number, "read")
            if number == 0:
                self._histories()
                if self.rng.random() < 0.3:
                    self._rebuild()
            self._differences()
            self._thin_out(moments, number)
        self._end()
        return Lived(self.world.seq, self.world.rows, self.moments, self.cuts)

    def _before(self) -> None:
        """A replica from before its history: nothing is known of it."""
        disk, sink = self.world.disk, self.world.sink
        for _ in range(self.rng.randrange(25)):
            for record in self.records.some():
                for _ in sink.carry_out(Step(0, Change(record, 0))):
                    pass
        if self.rng.random() < 0.5:
            disk.do("meta", disk.root, DIRECTORY._replace(mtime_ns=3))
        self.world.begin()

    def _work(self) -> None:
        records = [record for _ in range(self.rng.randrange(1, 5)) for record in self.records.some()]
        if self.crashes and self.rng.random() < 0.25:
            self._crash(records)
            return
        reader = self._reader() if self.readers.random() < 0.2 else None
        for _ in self.world.applying(records):
            if self.rng.random() < 0.02:
                self._read(1, "while records are carried out")
            if reader is not None and self.readers.random() < 0.05:
                reader.check((self.seed, "an open tree while records are carried out", self.world.seq))
        if reader is not None:
            reader.check((self.seed, "an open tree", self.world.seq))
            reader.close()
        if self.rng.random() < 0.4:
            self.world.flush()

    def _reader(self) -> Moment:
        reader = Moment(self.world, self.readers.choice(self._moments()))
        if self.readers.random() < 0.7:
            reader.open()
        self.moments += 1
        return reader

    def _rewind(self) -> None:
        world, seq = self.world, self.rng.choice(self._moments())
        before = world.seq
        if self.crashes and self.rng.random() < 0.5:
            self._cut(world.rewind(seq))
            return
        failures = world.failures
        for _ in range(1 + failures):  # one that broke off is begun again
            for _ in world.rewind(seq):
                pass
            world.failures = False
        world.failures = failures
        found = full_copy(world.disk.root)
        compare(found, world.trees[seq], (self.seed, "rewound from", before, "to", seq, "at", world.seq))
        self.moments += 1
        world.flush()

    def _crash(self, records: list[Record]) -> None:
        self._cut(self.world.applying(records))

    def _cut(self, working: Generator[None, None, None]) -> None:
        """The power fails in the middle of it."""
        for _ in zip(working, range(self.rng.randrange(30)), strict=False):
            pass
        working.close()
        self.world.crash()
        self.cuts += 1
        self.moments += 1
        found = full_copy(self.world.disk.root)
        compare(found, self.world.trees[self.world.seq], (self.seed, "power cut", self.world.seq))
        self.world.flush()

    def _moments(self) -> list[int]:
        return [*self.kept.marks, *range(self.kept.floor, self.world.seq + 1)]

    def _read(self, moments: int, *where: object) -> None:
        known = self._moments()
        for seq in self.rng.sample(known, min(moments, len(known))):
            self.world.check(seq, (self.seed, *where, seq, "of", self.world.seq, self.kept))
            if self.readers.random() < 0.3:
                Moment(self.world, seq).check((self.seed, *where, "as a tree", seq, "of", self.world.seq, self.kept))
            self.moments += 1

    def _histories(self) -> None:
        """Each object's history has all records that changed its content or its names."""
        world, changed = self.world, dict[Inode, set[int]]()
        for seq in range(1, world.seq + 1):
            for node, sure in visible_change(world.trees[seq - 1], world.trees[seq]).items():
                if sure:
                    changed.setdefault(node, set()).add(seq)
        past, log = world.past(), world.log()
        for oid in world.oids():
            node = world.disk.at(past.places.find(oid))
            found = [record.seq for record in log.of_object(oid)]
            assert found == sorted(set(found), reverse=True), (self.seed, oid, found)
            assert set(found) >= changed.get(node, set()), (self.seed, oid, found, changed[node])
        past.places.close()

    def _rebuild(self) -> None:
        """The index is lost: the journal has all that is needed to make it again."""
        directory = os.path.join(self.world.directory, "again")
        os.mkdir(directory)
        self.world.rebuild(directory)
        self._read(2, "rebuilt")

    def _differences(self) -> None:
        world, past = self.world, self.world.past()
        for _ in range(4):
            first, second = sorted(self.rng.choices(self._moments(), k=2))
            right = visible_change(world.trees[first], world.trees[second])
            found = {differs.oid for differs in Difference(past, first, second).objects()}
            nodes = {world.disk.at(past.places.find(oid)) for oid in found}
            where = (self.seed, first, second, found)
            assert {node for node, sure in right.items() if sure} <= nodes <= right.keys(), where
        past.places.close()

    def _thin_out(self, moments: int, number: int) -> None:
        floor = self.rng.randrange(self.kept.floor, self.world.seq + 1)
        below = [mark for mark in self._moments() if mark < floor]
        self.kept = self.kept.shrunk(floor, [mark for mark in below if self.rng.random() < 0.25])
        self.world.thin_out(self.kept)
        self._read(moments, number, "merged")
        for mark in self.kept.marks:
            self.world.check(mark, (self.seed, number, "mark", mark, self.kept))
            self.moments += 1

    def _end(self) -> None:
        """All is forgotten: index and store are empty, and the present is as it was."""
        world = self.world
        world.thin_out(Kept(world.seq), whole=True)
        world.check(world.seq, (self.seed, "end"))
        assert not world.disk.store.entries, (self.seed, world.disk.store.entries.keys())
        left = [(table.name, list(part.stream(table))) for part in world.index.parts.all for table in TABLES]
        assert not left, (self.seed, left)
        assert not world.disk.open_handles, (self.seed, world.disk.open_handles)


def live(seed: int, *, length: int = 70, moments: int = 6, make_disk: Callable[[random.Random], Disk] = Disk) -> Lived:
    """One life."""
    with seeded(seed) as directory:
        return Life(seed, directory, make_disk).live(length, moments)


if __name__ == "__main__":
    play(live)
