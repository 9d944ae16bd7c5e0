"""The recorder and the opening of a history, against full copies of the replica after each record."""

from __future__ import annotations

import errno
import os
import random
import re
import sqlite3
import threading
from pathlib import Path

import pytest
import trio

from i2core.api import Applied, Batch, Code, Kind, LinkError, Record, StopRule
from i2core.api.journal import Position, Tip
from i2core.api.journal.frames import HASH_BYTES
from i2core.api.present import Handle
from i2core.history.model.rows import DataWas
from i2core.history.record import recorder
from i2core.history.record.clock import HistoryClock, Reading
from i2core.history.record.durable import CannotGoOn, Durable
from i2core.history.record.old_bytes import JournalBytes
from i2core.history.record.turns import Turns
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE

from .copies import compare, full_copy
from .recorded import PowerCut, Recorded
from .recorded_lives import Lived, live

FILE = EMPTY_FILE._replace(xattrs=())


def _world(directory: Path) -> Recorded:
    return Recorded(random.Random(1), str(directory))  # noqa: S311 (a seed, not a secret)


def _create(path: bytes, data: bytes = b"content") -> Record:
    return Record(Kind.CREATE, 0, path, meta=FILE, data=data)


def _remove(path: bytes) -> Record:
    return Record(Kind.REMOVE, 0, path)


def test_every_moment_reads_as_it_was() -> None:
    """Lives with failures, full journals, lost indexes, and a cut at any await and any change."""
    lived = Lived(*map(sum, zip(*map(live, range(25)), strict=True)))
    assert lived.moments >= 800
    assert lived.cuts >= 15
    assert lived.indexes >= 10


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_every_moment_reads_as_it_was_in_many_lives(first: int) -> None:
    for seed in range(first, first + 50):
        live(seed)


# ------------------------------------------------------------------------------------------ recording


async def test_a_cancelled_batch_is_recorded_as_far_as_it_was_applied(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        with trio.CancelScope() as scope:
            real = world.history.recorder.reported

            def reported(seq: int) -> None:
                real(seq)
                if seq == 2:
                    scope.cancel()

            world.history.recorder.reported = reported  # type: ignore[method-assign]
            await world.history.recorder.apply(world.sink, 1, [_create(b"%d" % n) for n in range(5)])
        assert scope.cancelled_caught
        assert sorted(world.disk.root.entries) == [b"0", b"1"]
        world.trees[3] = full_copy(world.disk.root)
        await world.apply([_create(b"later"), _remove(b"0")])
        for seq in range(world.seq + 1):
            world.check(seq, seq)


async def test_an_object_whose_rename_broke_off_is_not_taken_for_the_one_that_has_the_name(tmp_path: Path) -> None:
    """The sink broke off before it told which object is the new directory."""
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        records = [Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY), Record(Kind.RENAME, 0, b"d", b"a")]
        real = world.disk.do

        def fail(*step: object) -> None:
            if world.history.recorder._reported == 2:
                raise StopRule("the disk fails")
            real(*step)

        world.disk.do = fail  # type: ignore[method-assign]
        with pytest.raises(StopRule):
            await world.history.recorder.apply(world.sink, 2, records)
        world.disk.do = real  # type: ignore[method-assign]
        world.trees[3] = full_copy(world.disk.root)
        await world.apply([_remove(b"a"), _create(b"d/inner")])
        for seq in range(world.seq + 1):
            world.check(seq, seq)


async def test_records_that_fail_as_planned_need_no_other_frame(tmp_path: Path) -> None:
    """A thousand records about a directory that is missing are a frame for each part, and no sync of the index each."""
    world = _world(tmp_path)
    async with world.opened():
        before = world.history.journal.tip.number
        await world.apply([_create(b"missing/%d" % n) for n in range(1000)])
        assert world.history.journal.tip.number == before + -(-1000 // recorder.PART_RECORDS)
        assert world.seq == 1000


async def test_while_one_part_is_carried_out_the_next_one_becomes_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "PART_RECORDS", 2)
    world = _world(tmp_path)
    async with world.opened():
        apply, parts = world.sink.apply, list[int]()

        async def applied(batch: Batch) -> Applied:
            while world.history.journal.tip.next_seq <= min(batch.last_seq + 2, 5):
                await trio.lowlevel.checkpoint()
            parts.append(len(batch.records))
            return await apply(batch)

        world.sink.apply = applied  # type: ignore[method-assign]
        with trio.fail_after(10):
            await world.apply([_create(b"a", b"%d" % n) for n in range(5)])
        assert parts == [2, 2, 1]
        for seq in range(world.seq + 1):
            world.check(seq, seq)


async def test_a_part_that_fails_takes_along_what_was_written_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "PART_RECORDS", 2)
    world = _world(tmp_path)
    async with world.opened():
        apply = world.sink.apply

        async def fail(batch: Batch) -> Applied:
            while world.history.journal.tip.next_seq <= batch.last_seq + 2:
                await trio.lowlevel.checkpoint()
            await apply(Batch(batch.first_seq, batch.records[:1], (batch.keeps or [])[:1]))
            raise StopRule("the disk fails")

        world.sink.apply = fail  # type: ignore[method-assign]
        with trio.fail_after(10), pytest.raises(StopRule):
            await world.history.recorder.apply(world.sink, 1, [_create(b"%d" % n) for n in range(4)])
        world.sink.apply = apply  # type: ignore[method-assign]
        assert world.history.journal.tip.next_seq == world.seq + 1 == 3
        world.trees[2] = full_copy(world.disk.root)
        await world.apply([_create(b"%d" % n, b"again") for n in range(4)])
        for seq in range(world.seq + 1):
            world.check(seq, seq)


async def test_what_is_planned_ahead_waits_for_no_descriptor_that_the_plan_before_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "PART_RECORDS", 2)
    world = _world(tmp_path)
    async with world.opened():
        child, refused = world.disk.child, list[bytes]()

        def scarce(directory: Handle, name: bytes) -> Handle | None:
            if world.history.journal.tip.next_seq > world.seq + 1:
                refused.append(name)
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return child(directory, name)

        world.disk.child = scarce  # type: ignore[method-assign]
        with trio.fail_after(10):
            await world.apply([_create(b"%d" % n) for n in range(4)])
        assert refused
        assert (world.seq, world.said) == (4, [])


async def test_a_full_journal_changes_nothing(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        room, world.shelf.room = world.shelf.room, 0
        with pytest.raises(StopRule) as caught:
            await world.history.recorder.apply(world.sink, 2, [_remove(b"a")])
        assert caught.value.code is Code.CDP_DATA_WRITE
        world.check_present("nothing was applied")
        world.shelf.room = room
        await world.apply([_remove(b"a")])
        world.check(1, "before the removal")
        assert not world.disk.root.entries


async def test_what_somebody_else_changed_is_said_and_compared(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY), _create(b"d/a"), _create(b"b")])
        del world.disk.root.entries[b"d"].entries[b"a"]
        done = await world.history.recorder.apply(
            world.sink, 4, [_remove(b"b"), _create(b"d/a", b"new"), _create(b"c")]
        )
        (failure,) = done.failures
        assert (failure.seq, failure.place, failure.code) == (5, (0, b"d/a"), Code.HISTORY_GAP)
        assert failure.repair
        assert (done.applied_seq, world.seq) == (6, 6)
        assert len(world.said) == 1
        assert sorted(world.disk.root.entries) == [b"c", b"d"]
        for seq in (4, 5, 6):
            world.check(seq, seq)


async def test_what_is_broken_must_be_opened_again(tmp_path: Path) -> None:
    world = _world(tmp_path)
    with pytest.raises(PowerCut):
        async with world.opened():
            await world.apply([_create(b"a")])
            await world.flush()
            world.power.left = 3  # one of them is cutting the journal, after the record failed
            with pytest.raises(PowerCut):
                await world.history.recorder.apply(world.sink, 2, [_remove(b"a"), _create(b"b")])
            assert world.history.recorder.broken is not None
            world.power.is_off = False
            with pytest.raises(LinkError):
                await world.history.recorder.apply(world.sink, 2, [_create(b"c")])
            with pytest.raises(LinkError):
                async with world.history.recorder.at_rest():
                    pass
            raise PowerCut
    world.restart(lost=False)
    async with world.opened():
        assert world.seq == 1
        world.check_present("undone")


async def test_a_replica_that_cannot_be_read_after_a_failure_is_opened_again(tmp_path: Path) -> None:
    """No descriptor is left to look up what the records before the failure have made."""
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        await world.flush()
        real = world.disk.do

        def scarce(*_: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        def fail(*step: object) -> None:
            if world.history.recorder._reported == 2:
                world.disk.child = scarce  # type: ignore[method-assign, assignment]
                raise StopRule("the disk fails")
            real(*step)

        world.disk.do = fail  # type: ignore[method-assign]
        records = [Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY), Record(Kind.RENAME, 0, b"d", b"a")]
        with pytest.raises(LinkError):
            await world.history.recorder.apply(world.sink, 2, records)
        assert world.history.recorder.broken is not None
        del world.disk.do, world.disk.child
    world.restart(lost=False)
    async with world.opened():
        world.check_present("opened again")


async def test_times_never_go_back(tmp_path: Path) -> None:
    """A record without a time is as old as the one before it."""
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a"), _create(b"b")])
        await world.apply([_create(b"c")])
        log = list(world.history.log().after(0))
        assert [record.seq for record in log] == [1, 2, 3]
        assert len({record.time_ns for record in log}) == 1
        assert world.history.moment(log[0].time_ns) == (log[0].time_ns, 3)


# ------------------------------------------------------------------------------------------ opening


async def test_a_beginning_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    world = _world(tmp_path)
    world.power.left = 2
    with pytest.raises(PowerCut):
        async with world.opened():
            pass
    assert world.durable is None
    world.restart(lost=False)
    async with world.opened():
        await world.apply([_create(b"a")])
        world.check(0, "empty")


async def test_a_history_without_its_position_cannot_go_on(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        await world.flush()
    world.durable = None
    frames = world.shelf.parts[-1].end.number
    with pytest.raises(CannotGoOn):
        async with world.opened():
            pass
    assert world.shelf.parts[-1].end.number == frames, "the journal was changed"


async def test_a_replica_that_somebody_changed_cannot_be_taken_back(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        await world.flush()
        await world.apply([_remove(b"a")])
    world.disk.store.entries.clear()
    with pytest.raises(CannotGoOn):
        async with world.opened():
            pass


async def test_an_index_that_is_lost_is_made_again(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a"), _remove(b"a")])
        await world.flush()
    os.unlink(os.path.join(world.directory, "rows-00000001.db"))
    async with world.opened():
        for seq in range(3):
            world.check(seq, seq)
    assert "3550" not in world.said[0]
    assert "made again" in world.said[0]


async def test_an_index_whose_schema_is_no_text_is_made_again(tmp_path: Path) -> None:
    """SQLite quotes it in its message, and Python cannot decode that."""
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        await world.flush()
    now = Path(world.directory) / "now.db"
    damaged = re.sub(b"(?i)create table", b"create tabl\x8d", now.read_bytes())
    assert damaged != now.read_bytes()
    now.write_bytes(damaged)
    async with world.opened():
        world.check(1, 1)
    assert "made again" in world.said[0]


async def test_a_lost_index_of_a_merged_journal_stops_the_rule(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a"), _remove(b"a")])
        await world.flush()
        journal = world.history.journal
        await journal.roll()
        async with journal.merge([journal.segments[0].number]) as merge:
            await merge.commit()
    os.unlink(os.path.join(world.directory, "rows-00000001.db"))
    with pytest.raises(StopRule) as caught:
        async with world.opened():
            pass
    assert caught.value.code is Code.CDP_INDEX_DAMAGED


async def test_an_index_that_cannot_be_opened_is_left_alone(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        await world.flush()
    os.unlink(os.path.join(world.directory, "now.db"))
    os.mkdir(os.path.join(world.directory, "now.db"))
    with pytest.raises(StopRule) as caught:
        async with world.opened():
            pass
    assert caught.value.code is Code.CDP_INDEX_READ


async def test_an_index_without_room_stops_the_rule_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a")])
        await world.flush()

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patch, pytest.raises(StopRule) as caught:
            patch.setattr(world.history.index, "add", full)
            patch.setattr(world.history.index, "give_up", full)
            await world.history.recorder.apply(world.sink, 2, [_remove(b"a")])
        assert caught.value.code is Code.CDP_INDEX_WRITE
    world.restart(lost=False)
    async with world.opened():
        assert world.seq == 1
        world.check_present("as it was")
        await world.apply([_remove(b"a")])
        world.check(1, 1)


# ------------------------------------------------------------------------------------------ parts


def test_who_writes_is_not_overtaken_by_readers() -> None:
    turns, order, begun = Turns(), list[str](), threading.Event()

    def write() -> None:
        begun.set()
        with turns.writing:
            order.append("writer")

    def read() -> None:
        with turns.reading:
            order.append("reader")

    writer, reader = threading.Thread(target=write), threading.Thread(target=read)
    with turns.reading:
        writer.start()
        begun.wait()
        while not turns.gate.locked():
            pass
        reader.start()
    writer.join()
    reader.join()
    assert order == ["writer", "reader"]


def test_a_position_as_text() -> None:
    durable = Durable(7, Tip(3, 8, b"h" * HASH_BYTES), Position(2, 4711))
    assert Durable.decode(durable.encode()) == durable
    with pytest.raises(ValueError, match="not enough values"):
        Durable.decode("7 2")


def test_a_clock_goes_on_over_restarts_and_without_what_was_kept() -> None:
    times = [Reading(1000, b"boot", 10)]
    clock = HistoryClock(lambda: times[-1], "", 0)
    assert clock.now_ns() == 1000
    kept = clock.encode()
    times.append(Reading(10**18, b"boot", 110))
    assert HistoryClock(lambda: times[-1], kept, 0).now_ns() == 1110, "a jump of the system clock counts a tenth"
    assert HistoryClock(lambda: times[-1], "", 5000).now_ns() == 5000, "the last time of the journal"


async def test_old_bytes_that_are_damaged_are_no_content(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a", b"old"), Record(Kind.WRITE, 0, b"a", data=b"new")])
        at = world.history.journal.segments[0].number
        row = DataWas(17, 0, 2, 0, 3, at, 200, 9, 0)
        with pytest.raises(StopRule) as caught:
            JournalBytes(world.history.journal).read(row, 0, 3)
        assert caught.value.code is Code.CDP_INCOMPLETE


async def test_a_moment_is_read_as_a_tree(tmp_path: Path) -> None:
    world = _world(tmp_path)
    async with world.opened():
        await world.apply([_create(b"a", b"old"), Record(Kind.WRITE, 0, b"a", data=b"new"), _remove(b"a")])
        tree = world.history.tree(0, 1)

        def read() -> bytes:
            with tree.directory(b"") as top, top.open(b"a") as file:
                return bytes(file.read(0, 10))

        assert await trio.to_thread.run_sync(read) == b"old"
        assert world.history.tree(0, 3).lookup(b"a") is None
        assert world.history.kept().has(1)
        compare(world.tree_at(3), world.trees[3], 3)
