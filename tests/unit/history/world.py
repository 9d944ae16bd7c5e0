"""A replica with its history, and the model that says what is right: a full copy of the tree after each record."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

from i2core.api.records import Record
from i2core.history.index.index import Index
from i2core.history.index.partition import Partition
from i2core.history.journal.frame import Frame, unpacked
from i2core.history.journal.packing import Packed, packed, shortened
from i2core.history.journal.take_in import take_in
from i2core.history.model.rows import CatalogChange, Object
from i2core.history.plan.enrol import enrol
from i2core.history.plan.plan import Plan, Planner
from i2core.history.plan.step import Change, Restore, Step
from i2core.history.read.log import Log
from i2core.history.read.past import Past, Ref
from i2core.history.read.places import Places
from i2core.history.recovery.failed import correct_catalog
from i2core.history.recovery.undo import Undo
from i2core.history.retention.kept import Kept
from i2core.history.retention.sweep import Sweep
from i2core.history.rewind.rewind import Rewind
from i2core.testing.memory_replica import Inode

from .copies import Copy, Tree, compare, full_copy
from .disk import Disk
from .journal import Journal
from .merging import merge
from .sink import Sink


class Readable:
    """Whose moments are read, and compared with full copies."""

    disk: Disk
    trees: dict[int, Tree]

    def past(self) -> Past:
        """`places.close` at the end."""
        raise NotImplementedError

    def tree_at(self, seq: int) -> Tree:
        """The whole tree at a moment, read through the history."""
        past = self.past()
        tree: Tree = {}
        groups: dict[object, tuple[bytes, ...]] = {}

        def go(ref: Ref, path: tuple[bytes, ...]) -> None:
            was = past.stat(ref, seq)
            inode = self.disk.at(was.handle)
            group = groups.setdefault(ref.oid or inode, path)
            size = was.size if inode.is_file else 0
            holes = bytearray(size)
            for lo, hi in past.holes(ref, seq, 0, size) if size else ():
                holes[lo:hi] = b"\1" * (hi - lo)
            data = past.read(ref, seq, 0, size)
            content = data, bytes(holes), was.target, was.device
            tree[path] = Copy(was.meta.mode, group, tuple(was.meta), *content, False, inode)
            if inode.is_dir:
                for name, child in sorted(past.names(ref, seq).items()):
                    found = past.child(ref, name, seq)
                    assert found is not None and found.oid == child.oid
                    go(child, (*path, name))

        root = past.root(0, seq)
        assert root is not None
        go(root, ())
        past.places.close()
        return tree

    def check(self, seq: int, where: object) -> None:
        compare(self.tree_at(seq), self.trees[seq], where)


class World(Readable):
    def __init__(
        self,
        rng: random.Random,
        directory: str,
        *,
        make_disk: Callable[[random.Random], Disk] = Disk,
        tail_rows: int = 40,
        part_rows: int = 120,
    ) -> None:
        self.rng = rng
        self.disk = make_disk(rng)
        self.sink = Sink(self.disk)
        self.journal = Journal()
        self.index = Index(directory, tail_rows=tail_rows, part_rows=part_rows)
        self.now = self.index.now
        self.directory = directory
        self.seq = self.durable = self.certain = 0
        """`certain`: frames up to the durable position."""
        self.time_ns = 1_000
        self.applied_ns = 5
        self.planner: Planner
        self.flight: deque[Plan] = deque()
        self.planned = 0
        self.extra: list[CatalogChange] = []
        self.trees: dict[int, Tree] = {}
        self.rows = 0
        self.failures = False
        """Records may fail in the middle."""
        self.flushes_early = False
        """What is applied may become durable between the records of one staged file."""

    def begin(self) -> None:
        """History is switched on."""
        self.disk.counts_links = True
        for changes in enrol(self.disk, [0], self.index.catalog.next_oid):
            self.extra += changes
        self.disk.counts_links = False
        self.write(Plan(1, ()))
        self.now.commit()
        self.planner = Planner(self.index.catalog, self.disk, self.index.catalog.next_oid, self.disk.grain)
        self.flush()
        self.trees[0] = full_copy(self.disk.root)

    # ------------------------------------------------------------------------------------------- records

    def apply(self, records: Sequence[Record | Restore]) -> None:
        """Applies records in batches, planning ahead."""
        for _ in self.applying(records):
            pass

    def applying(self, records: Sequence[Record | Restore]) -> Generator[None, None, None]:
        """As `apply`, with a stop before each primitive step: there the power may fail."""
        waiting = deque(records)
        self.planned = self.seq
        while waiting or self.flight:
            if waiting and len(self.flight) < 2 and (not self.flight or self.rng.random() < 0.5):
                self._plan(waiting)
            if self.flight:
                yield from self._carry_out(self.flight[0], waiting)
            if self.flushes_early and not self.flight and self.rng.random() < 0.3:
                self.flush()

    def _plan(self, waiting: deque[Record | Restore]) -> None:
        size = self.rng.randrange(1, 7)
        batch = [waiting[at] for at in range(min(size, len(waiting)))]
        changes = [Change(record, self.time_ns + at) for at, record in enumerate(batch, 1)]
        plan = self.planner.plan(self.planned + 1, changes)
        if not plan.steps:
            assert self.flight
            return
        self.time_ns += len(plan.steps)
        for _ in plan.steps:
            waiting.popleft()
        self.planned = plan.last_seq
        self.write(plan)
        self.flight.append(plan)

    def write(self, plan: Plan) -> None:
        """Its frames become durable, and readers see the rows."""
        extra, self.extra = self.extra, []
        for frame in packed(
            plan, self.disk, self.applied_ns, extra, old_bytes=5 * self.disk.grain.block, page=self.disk.grain.hole
        ):
            again = self._append(frame)
            if frame.frame.head.records:
                planned = [change for step in plan.steps for change in step.catalog]
                assert [change for seq, change in again.catalog if seq] == planned
                assert [record.seq for record in again.log] == [step.seq for step in plan.steps]

    def _append(self, frame: Packed) -> Frame:
        segment, offset = self.journal.append(frame.payload)
        again = unpacked(frame.payload, segment, offset)
        rows = frame.placed(segment, offset)
        assert again.rows.tables() == rows.tables()
        self.index.add(rows, [change for _, change in again.catalog], frame.frame.batch(segment, offset))
        self.now.reach = (0, len(self.journal.frames))
        self.rows += len(rows)
        return again

    def _carry_out(self, plan: Plan, waiting: deque[Record | Restore]) -> Iterator[None]:
        """Leaves the flight empty after a record that failed."""
        for step in plan.steps:
            made: Inode | None = None
            for stop in self.sink.carry_out(step):
                made = stop
                yield
                if self.failures and made is None and self.rng.random() < 0.02:
                    self._fail(step, waiting)
                    return
                if waiting and len(self.flight) < 2 and self.rng.random() < 0.1:
                    self._plan(waiting)
            self.carried_out(step, made)
        self.planner.applied(self.flight.popleft().last_seq)

    def _fail(self, failed: Step, waiting: deque[Record | Restore]) -> None:
        """The record fails here: its plan ends with it, and the later records are planned again."""
        later = [step.record for plan in self.flight for step in plan.steps if step.seq > failed.seq]
        waiting.extendleft(reversed(later))
        plan = self.flight[0]
        self.flight.clear()
        first = next(n for n, frame in enumerate(self.journal.frames) if self._first(frame) == plan.first_seq)
        self.index.give_up(failed.seq, (0, first))
        places = Places(self.index, self.disk)
        changes = correct_catalog(self.index.catalog, places, failed)
        places.close()
        self._shorten(plan, failed, changes)
        self.seq = self.planned = failed.seq
        self.trees[self.seq] = full_copy(self.disk.root)
        self.planner.applied(self.seq)
        self.planner.forget()

    def _shorten(self, plan: Plan, failed: Step, changes: list[CatalogChange]) -> None:
        """The journal is cut, and the plan's frame written again."""
        frames = self.journal.frames
        at = next(n for n, frame in enumerate(frames) if self._records(frame) and self._first(frame) == plan.first_seq)
        payload = frames[at][2]
        ahead = [frame for frame in frames[:at] if self._first(frame) == plan.first_seq]
        del frames[at:]
        self.index.drop_after(plan.first_seq - 1)
        for segment, offset, before in ahead:
            self.index.add(unpacked(before, segment, offset).rows)
        self._append(shortened(payload, failed.seq, changes))
        self.index.drop_after(failed.seq)
        self.now.reach = (0, len(frames))

    @staticmethod
    def _records(frame: tuple[int, int, bytes]) -> int:
        return unpacked(frame[2]).head.records

    @staticmethod
    def _first(frame: tuple[int, int, bytes]) -> int:
        return unpacked(frame[2]).head.first_seq

    def carried_out(self, step: Step, made: Inode | None) -> None:
        """The step is carried out."""
        if made is not None and step.oid:
            self.index.catalog.identify(step.oid, made.identity)
            self.extra.append(Object(step.oid, self.index.catalog.born(step.oid), made.identity))
        self.seq = step.seq
        self.trees[self.seq] = full_copy(self.disk.root)

    def flush(self) -> None:
        """All that is applied becomes durable."""
        if self.extra:
            self.write(Plan(self.planned + 1, ()))
        self.disk.flush()
        self.durable = self.seq
        self.certain = len(self.journal.frames)

    # ------------------------------------------------------------------------------------------- the power fails

    def crash(self) -> None:
        """The power fails, and comes back: start-up reads the frames, and undoes all that is not certain."""
        staged = self.disk.staged_for_good()
        self.disk.cut_power()
        self.flight.clear()
        self.extra = []
        self._reopen()
        frames = len(self.journal.frames)
        while self.rng.random() < 0.4:
            for _ in zip(self._undo(), range(self.rng.randrange(12)), strict=False):
                pass
        for _ in self._undo():
            pass
        del self.journal.frames[self.certain : frames]
        for name, node in staged.items():
            assert self.disk.staging.entries.get(name) is node, f"the staging file {name!r} is gone"
        self.seq = self.durable
        self.trees = {seq: tree for seq, tree in self.trees.items() if seq <= self.seq}
        self.planner = Planner(self.index.catalog, self.disk, self.index.catalog.next_oid, self.disk.grain)
        self.planner.applied(self.seq)

    def _reopen(self) -> None:
        """The index is opened again: what was not committed is gone, and the frames are taken in again."""
        self.index.abandon()
        self.index = Index(self.directory, tail_rows=self.index.tail_rows, part_rows=self.index.parts.part_rows)
        self.now = self.index.now
        reach = self.now.synced if self.rng.random() < 0.5 else self.now.reach
        for segment, offset, payload in self.journal.frames[reach[1] :]:
            take_in(self.index, payload, segment, offset)

    def rebuild(self, directory: str) -> None:
        """The index is lost, and made again from the frames. Only before anything was thinned out."""
        self.flush()
        self.index.abandon()
        self.directory = directory
        self.index = Index(directory, tail_rows=self.index.tail_rows, part_rows=self.index.parts.part_rows)
        self.now = self.index.now
        for segment, offset, payload in self.journal.frames:
            take_in(self.index, payload, segment, offset)
        self.now.reach = (0, len(self.journal.frames))
        self.now.commit()
        self.planner = Planner(self.index.catalog, self.disk, self.index.catalog.next_oid, self.disk.grain)
        self.planner.applied(self.seq)

    def _undo(self) -> Iterator[None]:
        return Undo(self.index, self.disk, self.journal, self.durable, (0, self.certain), self.disk.grain).run()

    # ------------------------------------------------------------------------------------------- turned back

    def rewind(self, seq: int) -> Generator[None, None, None]:
        """Turns the replica back, with a stop before each primitive step."""
        past = self.past()
        records = list(Rewind(past, seq).records())
        past.places.close()
        yield from self.applying(records)

    # ---------------------------------------------------------------------- the past is thinned out

    def thin_out(self, kept: Kept, *, whole: bool = False) -> None:
        """Merges neighbouring partitions and sweeps; both are sometimes given up in the middle and begun again.
        `whole`: all partitions."""
        self.flush()
        parts = self.index.close_growing()
        first = 0 if whole else self.rng.randrange(len(parts) + 1)
        last = len(parts) if whole else self.rng.randrange(first, len(parts) + 1)
        while self.rng.random() < 0.3 and not whole:
            self._break_off(self._merge(parts[first:last], kept))
        for _ in self._merge(parts[first:last], kept):
            pass
        while self.rng.random() < 0.3:
            self._break_off(Sweep(self.index, self.disk, kept).run())
        for _ in Sweep(self.index, self.disk, kept).run():
            pass
        self.disk.flush()

    def _merge(self, parts: Sequence[Partition], kept: Kept) -> Iterator[None]:
        return merge(self.index, parts, kept) if parts else iter(())

    def _break_off(self, work: Iterator[None]) -> None:
        for _ in zip(work, range(self.rng.randrange(4)), strict=False):
            pass
        del work

    # ------------------------------------------------------------------------------------------- reading

    def past(self) -> Past:
        return Past(self.index, Places(self.index, self.disk), self.journal, self.disk.grain)

    def log(self) -> Log:
        return Log(self.index, self.journal)

    def oids(self) -> list[int]:
        """Objects with a history, staging files left out."""
        return [row[0] for row in self.now.db.execute("select distinct oid from present where parent<>2")]
