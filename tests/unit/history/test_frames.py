"""Frames of planned batches, and the log that is read from them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api.inode_flags import UNREAD
from i2core.api.records import Kind, Meta, Record
from i2core.history.journal.columns import Damaged, Reader, pack
from i2core.history.journal.frame import unpacked, unpacked_log
from i2core.history.journal.packing import packed
from i2core.history.model.meta import pack as pack_meta
from i2core.history.model.meta import unpack as unpack_meta
from i2core.history.model.rows import Moment
from i2core.history.plan.step import Change
from i2core.testing.memory_replica import EMPTY_FILE

from .world import World

_CELL = st.tuples(st.integers(-(1 << 63), (1 << 63) - 1), st.binary(max_size=9))


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(random.Random(1), str(tmp_path))  # noqa: S311 (a seed, not a secret)
    made.begin()
    return made


@given(st.lists(_CELL), st.lists(_CELL))
def test_columns_come_back(first: list[tuple[int, bytes]], second: list[tuple[int, bytes]]) -> None:
    reader = Reader(pack(first, "qb") + pack(second, "qb"))
    assert list(reader.rows("qb")) == first
    assert list(reader.rows("qb")) == second


@given(st.lists(_CELL, min_size=1), st.data())
def test_columns_that_are_cut_are_damaged(rows: list[tuple[int, bytes]], data: st.DataObject) -> None:
    whole = pack(rows, "qb")
    with pytest.raises(Damaged):
        list(Reader(whole[: data.draw(st.integers(0, len(whole) - 1))]).rows("qb"))


@pytest.mark.parametrize("mtime_ns", [0, -1, 1_764_000_000_123_456_789, -(1 << 65), 1 << 66])
def test_attributes_come_back(mtime_ns: int) -> None:
    meta = Meta(0o100644, 1000, (1 << 32) - 2, mtime_ns, ((b"user.a", b""), (b"user.b", b"x" * 70_000)), 1 << 40)
    assert unpack_meta(pack_meta(meta)) == meta
    assert unpack_meta(pack_meta(meta._replace(xattrs=None, flags=UNREAD))).flags == UNREAD


def _file(world: World, data: bytes) -> None:
    world.apply([Record(Kind.CREATE, 0, b"f", meta=EMPTY_FILE, data=data)])


def test_what_one_record_destroys_may_fill_many_frames(world: World) -> None:
    """Old bytes go ahead in frames without records; the last one has the record."""
    _file(world, bytes(range(1, 201)))
    change = Change(Record(Kind.TRUNCATE, 0, b"f"), 7)
    frames = list(packed(world.planner.plan(world.seq + 1, [change]), world.disk, 9, old_bytes=32))
    assert [frame.frame.head.records for frame in frames] == [0] * (len(frames) - 1) + [1]
    assert len(frames) > 4
    rows = [row for frame in frames for row in frame.frame.rows.data]
    assert sum(row.hi - row.lo for row in rows) == 200
    assert unpacked(frames[-1].payload).head.losses == 1


def test_a_frame_that_is_damaged_is_refused(world: World) -> None:
    _file(world, b"old")
    payload = world.journal.frames[-1][2]
    for bad in (b"", b"\x09" + payload[1:], payload[:50]):
        with pytest.raises(Damaged):
            unpacked(bad)


def test_the_block_of_a_new_end_stays_data(world: World) -> None:
    """Its only bytes lay beyond the end that a publishing sets: the block has zeros then, and is no hole."""
    records = [
        Record(Kind.STAGE, 0, b"f"),
        Record(Kind.WRITE, 0, b"f", offset=31, data=b"abcd", staged=True),
        Record(Kind.PUBLISH, 0, b"f", meta=EMPTY_FILE, size=31),
        Record(Kind.TRUNCATE, 0, b"f", size=29),
    ]
    plan = world.planner.plan(1, [Change(record, 7) for record in records])
    assert [(old.lo, old.hi, old.parts is None) for old in plan.steps[-1].data] == [(5, 7, False)]


def test_a_block_that_is_rewritten_all_day_is_kept_whole_now_and_then(world: World) -> None:
    """So reading the oldest moment ends after a few rows."""
    _file(world, bytes(range(1, 17)))
    begin = world.seq
    for number in range(20):
        world.apply([Record(Kind.WRITE, 0, b"f", offset=3, data=bytes([number]))])
    oid = world.index.catalog.next_oid - 1
    rows = list(world.index.rows.data(oid, [0], begin))
    assert sum((row.lo, row.hi) == (0, 8) for row in rows) >= 4
    assert len(rows) < 30
    world.check(begin, "rewritten")


def test_pages_of_the_log(world: World) -> None:
    for number in range(30):
        world.apply([Record(Kind.CREATE, 0, b"f%d" % number, meta=EMPTY_FILE)])
    log = world.log()
    newest = [record.seq for record in log.before()]
    assert newest == list(range(30, 0, -1))
    assert [record.seq for record in log.before(11)] == list(range(10, 0, -1))
    assert [record.seq for record in log.after(20)] == list(range(21, 31))
    assert [record.seq for record in log.after(0)] == list(range(1, 31))
    assert next(log.before(8)).path == b"f6"


def test_a_time_leads_to_the_last_moment_of_it(world: World) -> None:
    world.apply([Record(Kind.CREATE, 0, b"f%d" % number, meta=EMPTY_FILE) for number in range(10)])
    log = world.log()
    times = [record.time_ns for record in log.after(0)]
    assert log.moment(times[4]) == Moment(times[4], 5)
    assert log.moment(times[0] - 1) is None
    assert log.moment(times[-1] + 1000) == Moment(times[-1], 10)
    assert log.time(3) == times[2]


def test_the_history_of_a_file_follows_it_across_its_names(world: World) -> None:
    _file(world, b"abc")
    world.apply(
        [
            Record(Kind.RENAME, 0, b"f", b"g"),
            Record(Kind.CREATE, 0, b"f", meta=EMPTY_FILE),
            Record(Kind.WRITE, 0, b"g", data=b"x"),
            Record(Kind.CREATE, 0, b"g", meta=EMPTY_FILE),
        ]
    )
    past = world.past()
    root = past.root(0, 1)
    assert root is not None
    first = past.child(root, b"f", 1)
    assert first is not None
    assert [record.seq for record in world.log().of_object(first.oid)] == [5, 4, 2, 1]


def test_a_histogram_counts_changes_and_losses(world: World) -> None:
    _file(world, b"abc")
    world.apply([Record(Kind.WRITE, 0, b"f", data=bytes([n])) for n in range(20)])
    world.apply([Record(Kind.BARRIER, 0, b"") for _ in range(5)])
    times = [record.time_ns for record in world.log().after(0)]
    bins = world.log().histogram(times[0], times[-1] + 1, 4)
    assert sum(each.changes for each in bins) == 21
    assert sum(each.losses for each in bins) >= 20
    assert [each.begin_ns for each in bins] == sorted(each.begin_ns for each in bins)


def test_the_log_alone_can_be_read_from_the_head_of_a_frame(world: World) -> None:
    _file(world, b"abc")
    batch = world.index.batches.get(1)
    assert batch is not None
    (record,) = unpacked_log(world.journal.head(batch))
    assert (record.op, record.path, record.length) == (Kind.CREATE, b"f", 3)
