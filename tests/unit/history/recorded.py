"""A replica whose history is written by the product's `Recorder`: the sink may fail, and all may end at any await and
at any change of the replica. The model is that of `World`: a full copy of the tree after each record."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from unittest import mock

import trio

from i2core.api import Applied, Batch, Code, Failure, Kind, Place, Record, Sink, StopRule
from i2core.api.journal import Draft, JournalContext, JournalFull, Placed, Position
from i2core.api.present import Identity
from i2core.history.index.now import Now
from i2core.history.index.partition import Partition
from i2core.history.plan.step import Change, Step
from i2core.history.read.past import Past
from i2core.history.record.clock import Reading
from i2core.history.record.durable import Durable
from i2core.history.record.history import History, HistoryContext, open_history
from i2core.testing.journal import MemoryJournal, MemoryShelf

from .copies import Tree, compare, full_copy
from .disk import GRAIN, Disk
from .sink import Sink as Steps
from .world import Readable

START_NS = 1_700_000_000 * 10**9


class PowerCut(Exception):
    """Nothing of this process is there any more."""


class Power:
    """Fails after so many ticks, once; from then on nothing has an effect."""

    def __init__(self) -> None:
        self.left = -1
        self.is_off = False
        self.ticks = 0
        self.at_the_cut: Callable[[], None] = lambda: None

    def tick(self) -> None:
        self.ticks += 1
        if self.left == 0 and not self.is_off:
            self.is_off = True
            self.at_the_cut()
        self.left -= 1
        if self.is_off:
            raise PowerCut


class PoweredDisk(Disk):
    """Each change may be the last one."""

    def __init__(self, rng: random.Random, power: Power) -> None:
        self.power = power
        super().__init__(rng)

    def do(self, *step: Any) -> None:
        self.power.tick()
        super().do(*step)

    def restart(self, *, lost: bool) -> None:
        """As a new process finds it. `lost`: the power was cut, and the caches are gone."""
        if lost:
            self.cut_power()
        self.staged.clear()
        for handle in [handle for handle, _ in self._open.items() if handle > 2]:
            del self._open[handle]


class PoweredJournal(MemoryJournal):
    """Each change may happen or not when the power fails; now and then there is no room."""

    power: Power
    rng: random.Random
    may_be_full = False

    async def _do(self, work: Callable[[], Awaitable[list[Placed]]]) -> list[Placed]:
        self.power.tick()
        placed = await work()
        self.power.tick()
        return placed

    async def append(self, group: Sequence[Draft]) -> list[Placed]:
        if self.may_be_full and not self.power.is_off and self.rng.random() < 0.03:
            raise JournalFull("no room")
        return await self._do(lambda: MemoryJournal.append(self, group))

    async def cut(self, at: Position, instead: Sequence[Draft] = ()) -> list[Placed]:
        return await self._do(lambda: MemoryJournal.cut(self, at, instead))


class StepSink(Sink):
    """Carries out records in primitive steps. What it is told to fail, fails in the middle."""

    owns = True

    def __init__(self, world: Recorded) -> None:
        self._world = world
        self._steps = Steps(world.disk)

    async def apply(self, batch: Batch) -> Applied:
        assert batch.keeps is not None
        world, made = self._world, dict[int, Identity]()
        for seq, (record, keeps) in enumerate(zip(batch.records, batch.keeps, strict=True), batch.first_seq):
            await trio.lowlevel.checkpoint()
            assert world.history.journal.tip.next_seq > seq, "what the record destroys is not durable"
            if world.fails(0.02):
                return Applied(seq - 1, made=made, blocked=True)
            found = None
            for stop in self._steps.carry_out(Step(seq, Change(record, 0), keeps=dict(keeps))):
                found = stop
                if found is None and world.fails(0.01):
                    raise StopRule("the disk fails")
                if found is None and world.fails(0.02):
                    return self._done(seq, made, Failure(seq, Place(0, record.path), Code.REPLICATE_FILE, "it fails"))
            if found is not None and (record.kind is not Kind.MKDIR or world.disk.walk(record.path) is found):
                made[seq] = found.identity
            self._done(seq, made)
        return Applied(batch.last_seq, made=made)

    def _done(self, seq: int, made: dict[int, Identity], *failures: Failure) -> Applied:
        self._world.history.recorder.reported(seq)
        self._world.trees[seq] = full_copy(self._world.disk.root)
        return Applied(seq, failures, made=made)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self._world.disk.flush()

    async def look(self, asks: Any) -> Any: ...

    async def hashes(self, *args: Any, **kwargs: Any) -> Any: ...

    async def hashes_of(self, *args: Any, **kwargs: Any) -> Any: ...

    async def count(self, *args: Any, **kwargs: Any) -> Any: ...

    async def set_aside(self, *args: Any, **kwargs: Any) -> Any: ...


class Recorded(Readable):
    """One replica with its history, over restarts."""

    disk: PoweredDisk
    history: History
    make_journal: type[PoweredJournal] = PoweredJournal

    def __init__(self, rng: random.Random, directory: str, *, tail_rows: int = 40) -> None:
        self.rng = rng
        self.power = Power()
        self.disk = PoweredDisk(rng, self.power)
        self.shelf = MemoryShelf()
        self.sink = StepSink(self)
        self.trees: dict[int, Tree] = {}
        self.durable: Durable | None = None
        self.boot = 1
        self.failures = False
        self.said: list[str] = []
        self._top, self._copies = directory, 0
        self._tail_rows = tail_rows
        self.power.at_the_cut = self._keep_index

    @property
    def directory(self) -> str:
        return os.path.join(self._top, f"index-{self._copies}")

    def _keep_index(self) -> None:
        """The index as it is now: what the dying process still does to it is not seen."""
        before = self.directory
        self._copies += 1
        if os.path.exists(before):
            shutil.copytree(before, self.directory)

    @property
    def _synced(self) -> str:
        return os.path.join(self._top, "synced")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within the block it is seen what of the index is durable: each file when it is synced."""
        commit, seal = Now.commit, Partition.seal

        def committed(now: Now, *, durable: bool = False) -> None:
            commit(now, durable=durable)
            if durable:
                self._keep("now.db")

        def sealed(part: Partition) -> None:
            seal(part)
            self._keep(os.path.basename(part.path))

        with mock.patch.object(Now, "commit", committed), mock.patch.object(Partition, "seal", sealed):
            yield

    def _keep(self, file: str) -> None:
        if self.power.is_off:
            return
        os.makedirs(self._synced, exist_ok=True)
        for end in ("", "-wal", "-shm"):
            if os.path.exists(path := os.path.join(self.directory, file + end)):
                shutil.copyfile(path, os.path.join(self._synced, file + end))

    def _lose_caches(self) -> None:
        """Of each file of the index, what was synced stays for certain, and what was written since perhaps."""
        for file in sorted(file for file in os.listdir(self.directory) if file.endswith(".db")):
            if self.rng.random() < 0.5:
                continue
            for end in ("", "-wal", "-shm"):
                kept, path = os.path.join(self._synced, file + end), os.path.join(self.directory, file + end)
                if os.path.exists(kept):
                    shutil.copyfile(kept, path)
                elif os.path.exists(path):
                    os.truncate(path, 0)

    def _clocks(self) -> Reading:
        return Reading(START_NS, bytes([self.boot]) * 16, 1)

    def fails(self, share: float) -> bool:
        return self.failures and self.rng.random() < share

    # ------------------------------------------------------------------------------------------- open

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """The history is open."""
        kept = None if self.durable is None else self.durable.tip
        context = JournalContext(directory=b"/journal", segment_bytes=2000, kept=kept)
        journal = self.make_journal(context, self.shelf)
        journal.power, journal.rng = self.power, self.rng
        setting = HistoryContext(
            directory=self.directory,
            roots=1,
            epoch=1,
            clocks=self._clocks,
            say=self.said.append,
            grain=GRAIN,
            flags=True,
            old_bytes=5 * GRAIN.block,
        )
        self.disk.counts_links = self.durable is None
        async with open_history(setting, journal, self.disk, self.durable) as history:
            self.disk.counts_links = False
            self.history = history
            history.index.tail_rows, history.index.parts.part_rows = self._tail_rows, 3 * self._tail_rows
            if self.durable is None:
                self.power.tick()
                self.durable = history.durable
                self.trees[0] = full_copy(self.disk.root)
                self.disk.flush()
            self.trees = {seq: tree for seq, tree in self.trees.items() if seq <= history.seq}
            journal.may_be_full = self.failures
            yield

    def restart(self, *, lost: bool) -> None:
        """The process is begun again, after a power cut or a kill."""
        if lost and os.path.exists(self._synced):
            self._lose_caches()
        self.power.is_off, self.power.left = False, -1
        self.disk.restart(lost=lost)
        self.boot += lost

    def past(self) -> Past:
        return self.history.past()

    @property
    def seq(self) -> int:
        return self.history.seq

    # ------------------------------------------------------------------------------------------- records

    async def apply(self, records: Sequence[Record]) -> None:
        """As a session does: what is blocked gets room first, and after an error all that was not applied is sent
        again."""
        waiting = list(records)
        while waiting:
            first = self.seq + 1
            try:
                done = await self.history.recorder.apply(self.sink, first, waiting)
            except StopRule:
                del waiting[: self.seq + 1 - first]
            else:
                assert done.applied_seq == self.seq
                del waiting[: self.seq + 1 - first]
                assert done.blocked == bool(waiting)
            self.trees[self.seq] = full_copy(self.disk.root)

    async def flush(self) -> None:
        """All that is applied becomes durable."""
        while True:
            try:
                async with self.history.recorder.at_rest() as durable:
                    break
            except JournalFull:
                continue
        self.power.tick()
        await self.sink.flush()
        self.power.tick()
        self.durable = self.history.durable = durable

    def check_present(self, where: object) -> None:
        """The replica is as it was at the last record."""
        compare(full_copy(self.disk.root), self.trees[self.seq], where)

    def lose_index(self) -> None:
        """Somebody removes a file of the index, or writes into it."""
        files = sorted(file for file in os.listdir(self.directory) if file.endswith(".db"))
        path = os.path.join(self.directory, self.rng.choice(files))
        if self.rng.random() < 0.5:
            os.unlink(path)
            return
        with open(path, "r+b") as file:
            file.write(bytes(4096))
