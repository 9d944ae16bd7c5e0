"""What single batches of records are planned to destroy and to keep."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest

from i2core.api.records import Kind, Record
from i2core.history.model.rows import Left
from i2core.history.plan.plan import Plan
from i2core.history.plan.step import Change, Restore
from i2core.history.plan.view import ForeignChange
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE

from .world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(random.Random(1), str(tmp_path))  # noqa: S311 (a seed, not a secret)
    made.begin()
    return made


def _plan(world: World, *records: Record) -> Plan:
    return world.planner.plan(world.seq + 1, [Change(record, 7) for record in records])


def _file(path: bytes, data: bytes = b"old") -> Record:
    return Record(Kind.CREATE, 0, path, meta=EMPTY_FILE, data=data)


def _directory(path: bytes) -> Record:
    return Record(Kind.MKDIR, 0, path, meta=DIRECTORY)


def test_a_file_with_another_name_only_loses_this_one(world: World) -> None:
    world.apply([_file(b"a"), Record(Kind.LINK, 0, b"b", b"a")])
    first, second = _plan(world, Record(Kind.REMOVE, 0, b"a"), Record(Kind.REMOVE, 0, b"b")).steps
    assert first.keeps == {}
    assert second.keeps == {b"b": first.names[0].oid}


def test_a_tree_goes_whole_with_two_rows(world: World) -> None:
    """However many files are in it."""
    world.apply([_directory(b"d"), *(_file(b"d/%d" % number) for number in range(30))])
    world.apply([Record(Kind.SETATTR, 0, b"", meta=DIRECTORY._replace(mtime_ns=9))])
    (step,) = _plan(world, Record(Kind.REMOVE, 0, b"d")).steps
    assert list(step.keeps) == [b"d"]
    assert (len(step.names), len(step.metas), len(step.data)) == (1, 1, 0)


def test_a_directory_that_is_kept_has_its_time_when_something_is_taken_out(world: World) -> None:
    """A file system gives it another one with the name that goes."""
    world.apply([_directory(b"d"), _file(b"d/f"), Record(Kind.SETATTR, 0, b"d", meta=DIRECTORY._replace(mtime_ns=9))])
    before = world.seq
    world.apply([Record(Kind.REMOVE, 0, b"d")])
    ((kept, _),) = world.disk.store.entries.items()
    world.apply([Restore(0, b"f", kept + b"/f")])
    assert list(world.disk.root.entries) == [b"f"]
    world.check(before, "before it was removed")
    assert world.tree_at(before)[b"d",].meta[3] == 9


def test_appended_bytes_cost_no_old_bytes(world: World) -> None:
    world.apply([_file(b"f", bytes(range(16)))])
    (step,) = _plan(world, Record(Kind.WRITE, 0, b"f", offset=16, data=b"new")).steps
    assert [row.size for row in step.sizes] == [16]
    assert step.data == []


def test_old_bytes_that_are_on_their_way_come_from_there(world: World) -> None:
    """The second write destroys what the first, which is not carried out yet, will have written."""
    world.apply([_file(b"f", b"0123456789abcdef")])
    records = [Record(Kind.WRITE, 0, b"f", offset=4, data=b"XYZW"), Record(Kind.WRITE, 0, b"f", offset=6, data=b"..")]
    first, second = _plan(world, *records).steps
    assert first.data[0].read(world.disk) == b"4567"
    assert second.data[0].read(world.disk) == b"ZW"


def test_a_record_that_cannot_be_carried_out_destroys_nothing(world: World) -> None:
    world.apply([_file(b"f"), _directory(b"d")])
    records = [
        Record(Kind.WRITE, 0, b"missing", data=b"x"),
        Record(Kind.WRITE, 0, b"d", data=b"x"),
        Record(Kind.REMOVE, 0, b"d/x/y"),
        Record(Kind.RENAME, 0, b"d", b"d/in/itself"),
        Record(Kind.LINK, 0, b"g", b"d"),
        Record(Kind.CREATE, 0, b"f/below/a/file", meta=EMPTY_FILE),
        Record(Kind.SETATTR, 0, b"f", meta=DIRECTORY),
    ]
    plan = _plan(world, *records)
    assert len(plan.steps) == len(records)
    assert not any(step.loses or step.keeps for step in plan.steps)


def test_the_same_attributes_again_cost_nothing(world: World) -> None:
    world.apply([_file(b"f"), Record(Kind.SETATTR, 0, b"f", meta=EMPTY_FILE)])
    same, other = _plan(
        world,
        Record(Kind.SETATTR, 0, b"f", meta=EMPTY_FILE),
        Record(Kind.SETATTR, 0, b"f", meta=EMPTY_FILE._replace(mode=stat.S_IFREG | 0o644)),
    ).steps
    assert not same.loses
    assert len(other.metas) == 1


def test_a_truncation_to_the_length_that_a_file_has_loses_its_time(world: World) -> None:
    """ftruncate(2) sets it all the same."""
    world.apply([_file(b"f"), Record(Kind.SETATTR, 0, b"f", meta=EMPTY_FILE._replace(mtime_ns=9))])
    (step,) = _plan(world, Record(Kind.TRUNCATE, 0, b"f", size=3)).steps
    assert [row.oid for row in step.metas] == [step.oid] == list(step.touched)
    assert not step.sizes and not step.data


def test_a_plan_ends_where_nobody_knows_whether_a_staging_file_is_there(world: World) -> None:
    """The sink moves it when the directory is renamed; until then it has the old name."""
    world.apply([_directory(b"d"), Record(Kind.STAGE, 0, b"d/f")])
    records = [Record(Kind.RENAME, 0, b"d", b"e"), Record(Kind.PUBLISH, 0, b"e/f", meta=EMPTY_FILE, size=3)]
    assert len(_plan(world, *records).steps) == 1
    assert not _plan(world, records[1]).steps
    world.planner.forget()
    world.apply(records)
    assert world.disk.walk(b"e/f") is not None
    world.check(world.seq - 1, "before it was published")
    world.check(world.seq, "published")


def test_somebody_else_has_removed_an_object(world: World) -> None:
    """That is reported, and not taken for a state of the past; once the name is out of the catalog, planning
    continues."""
    world.apply([_file(b"a"), _file(b"f")])
    del world.disk.root.entries[b"f"]
    overwrite = Record(Kind.WRITE, 0, b"f", data=b"x")
    assert len(_plan(world, Record(Kind.WRITE, 0, b"a", data=b"x"), overwrite).steps) == 1
    world.planner.forget()
    with pytest.raises(ForeignChange) as caught:
        _plan(world, overwrite)
    world.index.catalog.change([Left(caught.value.parent, caught.value.name)])
    assert not _plan(world, overwrite).steps[0].loses


def test_somebody_else_has_put_another_object_there(world: World) -> None:
    world.apply([_file(b"f")])
    world.disk.root.entries[b"f"] = world.disk.inode(EMPTY_FILE)
    with pytest.raises(ForeignChange):
        _plan(world, Record(Kind.WRITE, 0, b"f", data=b"x"))


def test_no_handle_is_left_open(world: World) -> None:
    world.apply([_directory(b"d"), _file(b"d/f"), Record(Kind.RENAME, 0, b"d/f", b"g"), Record(Kind.REMOVE, 0, b"d")])
    assert world.disk.open_handles == 0
