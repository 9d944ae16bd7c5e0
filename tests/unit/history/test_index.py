"""The index: what a crash leaves of it, and how it is put together again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from i2core.api.present import Identity
from i2core.history.index.index import Index
from i2core.history.index.partition import Partition, Rows
from i2core.history.model.grain import Grain
from i2core.history.model.rows import HOLE, DataWas, Home, Left, MetaWas, NameWas, Object, SizeWas, Touch
from i2core.history.retention.kept import Kept

from .merging import merge


def _rows(*untils: int) -> Rows:
    rows = Rows()
    for until in untils:
        rows.names.append(NameWas(16, b"n%d" % until, 0, until, 100 + until))
        rows.metas.append(MetaWas(20, until, b"meta"))
        rows.sizes.append(SizeWas(20, until, until))
        rows.data.append(DataWas(20, 0, until, 0, 10, HOLE, 0, 0, 0))
        rows.touches.append(Touch(20, until))
    return rows


def _lengths(*untils: int) -> Rows:
    """Rows of the length of one object alone: before `until` it was as long as `until`."""
    rows = Rows()
    rows.sizes += [SizeWas(20, until, until) for until in untils]
    return rows


def _parts(index: Index) -> list[tuple[int, int]]:
    return [(part.first, part.last) for part in index.parts.all]


def _open(directory: Path) -> Index:
    return Index(str(directory), tail_rows=10, part_rows=20)


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    index = _open(tmp_path)
    for seq in range(1, 20):
        index.add(_rows(seq), [Home(16, b"x", 30, seq), Object(30, 1, Identity(1, 2, 3), 1)])
    assert len(index.parts.all) > 2
    index.close()
    again = _open(tmp_path)
    assert again.rows.size(20, 0) == 1
    assert again.rows.size(20, 12) == 13
    assert again.rows.size(20, 19) is None
    assert again.catalog.home(16, b"x") == (30, 19)
    assert list(again.rows.touches(20, 100)) == list(range(19, 0, -1))
    again.close()


def test_a_killed_process_leaves_what_was_committed(tmp_path: Path) -> None:
    index = _open(tmp_path)
    index.add(_rows(1, 2, 3), [Home(16, b"x", 30, 1)])
    index.now.reach = (1, 70)
    index.flush()
    index.add(_rows(4), [Left(16, b"x")])
    index.now.reach = (1, 99)
    index.abandon()
    again = _open(tmp_path)
    assert again.now.reach == (1, 70)
    assert again.catalog.home(16, b"x") == (30, 1)
    assert again.rows.size(20, 3) is None
    again.close()


def test_a_roll_back_that_was_cut_off_is_ended_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _open(tmp_path)
    index.add(_rows(*range(1, 12)), [Home(16, b"x", 30, 8), Object(30, 8, None, 8)])
    with monkeypatch.context() as patched:
        patched.setattr(Partition, "drop_above", lambda part, seq: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            index.roll_back(5, (1, 50))
    index.abandon()
    again = _open(tmp_path)
    assert again.rows.size(20, 4) == 5
    assert again.rows.size(20, 5) is None
    assert again.catalog.home(16, b"x") is None
    assert again.now.reach == (1, 50)
    again.close()


def test_a_merge_that_is_given_up_leaves_no_trace(tmp_path: Path) -> None:
    index = _open(tmp_path)
    for seq in range(1, 20):
        index.add(_rows(seq))
    parts = index.close_growing()
    before = sorted(path.name for path in tmp_path.iterdir())
    merging = merge(index, parts, Kept(15, [3]))
    next(merging)
    del merging
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    rows = sum(part.count for part in parts)
    for _ in merge(index, parts, Kept(15, [3])):
        pass
    assert len(index.parts.all) == 1
    assert 0 < index.parts.all[0].count < rows
    assert index.rows.size(20, 3) == 4
    assert index.rows.size(20, 15) == 16
    index.close()


def test_a_file_that_no_list_names_is_removed(tmp_path: Path) -> None:
    _open(tmp_path).close()
    (tmp_path / "rows-00000099.db").write_bytes(b"")
    (tmp_path / "rows-00000099.db-wal").write_bytes(b"")
    _open(tmp_path).close()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("rows-")] == []


def test_a_file_of_the_past_is_durable_before_the_next_begins(tmp_path: Path) -> None:
    """After a power cut the files of the index may be of different times: so it tells from where on they are."""
    index = _open(tmp_path)
    for seq in range(1, 3):
        index.now.reach = (1, seq * 100)
        index.add(_rows(seq))
    assert index.now.synced == (0, 0)
    for seq in range(3, 12):
        index.now.reach = (1, seq * 100)
        index.add(_rows(seq))
    assert (0, 0) < index.now.synced <= index.now.reach
    index.sync()
    assert index.now.synced == (1, 1100)
    index.close()


def test_a_hole_of_a_terabyte_takes_few_rows() -> None:
    """And each of its bytes is found by a look at one block of each level."""
    grain = Grain()
    lo, hi = 5 * 4096, 3 << 40
    pieces = list(grain.pieces(lo, hi))
    assert len(pieces) < 1000
    at = lo
    for number, first, last in pieces:
        assert grain.start(number) + first == at
        at = grain.start(number) + last
    assert at == hi
    found = {number for number, _, _ in pieces}
    for offset in (lo, 65_535, 65_536, 1 << 24, (1 << 32) + 17, (2 << 40) + 4711, hi - 1):
        assert len(found & set(grain.numbers(offset))) == 1


@pytest.mark.parametrize(
    "merged", [(), (0, 1), (1, 2)], ids=["as written", "the first two merged", "the last two merged"]
)
def test_partitions_that_end_together_stay_in_order(tmp_path: Path, merged: tuple[int, ...]) -> None:
    """Old bytes lie in frames ahead of their record: the last row of a partition may be one of the next one's too, and
    rows of the next may be of an earlier moment than all of this one."""
    index = _open(tmp_path)
    for rows in (_lengths(1, 2, 3), _lengths(9, 12), _lengths(8, 12)):
        index.add(rows)
        index.flush()
        index.close_growing()
    if merged:
        for _ in merge(index, [index.parts.all[place] for place in merged], Kept(0, [0])):
            pass
    as_written = _parts(index)
    assert len(as_written) == (2 if merged else 3)
    index.close()
    again = _open(tmp_path)
    assert _parts(again) == as_written
    again.close()


def test_an_index_of_another_format_is_told_from_a_good_one(tmp_path: Path) -> None:
    _open(tmp_path).close()
    db = sqlite3.connect(tmp_path / "now.db")
    db.execute("pragma user_version=7")
    db.close()
    with pytest.raises(sqlite3.DatabaseError, match="its format is 7, and this version of the program has 1"):
        _open(tmp_path)


def test_a_number_is_never_given_twice(tmp_path: Path) -> None:
    index = _open(tmp_path)
    index.catalog.change([Object(77, 1, None, 1), Home(16, b"x", 77, 1)])
    assert index.catalog.next_oid == 78
    index.catalog.forget(77)
    assert index.catalog.next_oid == 78
    index.close()
