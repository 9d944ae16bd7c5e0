"""The dirty set: coalesces marks, keeps the order of moves, and stays bounded."""

from __future__ import annotations

import time

import pytest

from i2core.api import Change, Lost, Op, Place
from i2core.rule.live import dirty
from i2core.rule.live.dirty import DirtySet, Mark


def at(path: str) -> Place:
    """A place beneath root 0."""
    return Place(0, path.encode())


def paths(marks: list[Mark]) -> list[str]:
    """The paths of the marks, in order."""
    return [mark.place.path.decode() for mark in marks]


def test_a_hot_file_is_one_mark() -> None:
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, at("hot")), Change(Op.MODIFY, at("cold"))])
    marks.add([Change(Op.MODIFY, at("hot"))] * 1000)
    assert paths(marks.take(10)) == ["hot", "cold"]
    assert marks.captured == 1002
    assert len(marks) == 0


def test_moves_keep_their_order_and_the_old_name_is_checked_after_them() -> None:
    marks = DirtySet()
    marks.add(
        [
            Change(Op.MODIFY, at("log")),
            Change(Op.RENAME, at("log"), to=at("log.1")),
            Change(Op.CREATE, at("log")),
            Change(Op.RENAME, at("log.1"), to=at("log.2")),
        ]
    )
    taken = marks.take(10)
    moves = [(m.moved_from.path, m.place.path) for m in taken if m.moved_from is not None]
    assert moves == [(b"log", b"log.1"), (b"log.1", b"log.2")]
    assert taken[0].content, "what was written under the old name is looked at under the new one"
    names = paths(taken)
    assert names.index("log") > names.index("log.1")


def test_exact_ranges_gather_until_there_are_too_many() -> None:
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, at("db"), exact=True, first=n * 10, length=5) for n in range(3)])
    (mark,) = marks.take(1)
    assert mark.content and mark.ranges == [(0, 5), (10, 15), (20, 25)]
    marks.add([Change(Op.MODIFY, at("db"), exact=True, first=n, length=1) for n in range(dirty.RANGES + 1)])
    (mark,) = marks.take(1)
    assert mark.content and mark.ranges is None
    marks.add([Change(Op.MODIFY, at("db"), exact=True, first=0, length=1), Change(Op.MODIFY, at("db"))])
    (mark,) = marks.take(1)
    assert mark.ranges is None


def test_lost_marks_the_subtree() -> None:
    marks = DirtySet()
    marks.add([Lost(at("a/b"), "overflow")])
    (mark,) = marks.take(1)
    assert mark.tree and mark.place == at("a/b")


def test_too_many_places_are_coalesced_into_directories_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "COALESCE_AT", 100)
    marks = DirtySet()
    marks.add([Change(Op.CREATE, at("top"))])
    marks.add([Change(Op.MODIFY, at(f"d{n % 7}/e{n % 11}/f{n}")) for n in range(101)])
    assert len(marks) <= 50
    taken = marks.take(1000)
    covers = [mark.place.path for mark in taken if mark.tree]
    for number in range(101):
        path = b"d%d/e%d/f%d" % (number % 7, number % 11, number)
        assert any(path.startswith(cover + b"/") or not cover for cover in covers)
    assert "top" in paths(taken) or b"" in covers


def test_what_is_put_back_comes_first_and_keeps_its_age() -> None:
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, at("a")), Change(Op.MODIFY, at("b"))])
    taken = marks.take(2)
    before = time.monotonic_ns()
    marks.add([Change(Op.MODIFY, at("c"))])
    assert not marks.owed(before)
    marks.put_back(taken)
    assert marks.owed(before)
    assert paths(marks.take(10)) == ["a", "b", "c"]


def test_a_moved_directory_is_compared_as_a_whole() -> None:
    marks = DirtySet()
    marks.add([Change(Op.RENAME, at("a"), is_dir=True, to=Place(1, b"b")), Change(Op.RENAME, at("f"), to=at("g"))])
    assert {mark.place: mark.tree for mark in marks.take(9) if mark.moved_from} == {
        Place(1, b"b"): True,
        at("g"): False,
    }


def by_inode(marks: DirtySet) -> Mark:
    """The mark of files without a name."""
    (found,) = [mark for mark in marks.take(1_000_000) if mark.place == dirty.BY_INODE]
    return found


def test_files_go_with_the_name_under_which_they_changed() -> None:
    marks = DirtySet()
    marks.add([Change(Op.CREATE, at("a"), inode=7), Change(Op.MODIFY, at("a"), inode=7)])
    marks.add([Change(Op.REMOVE, at("b"), inode=9), Change(Op.MODIFY, at("c"), inode=1)])
    marks.add([Change(Op.ATTRIB, at("c"), inode=2), Change(Op.RENAME, at("c"), to=at("d"))])
    found = [(mark.place.path, set(mark.inodes)) for mark in marks.take(10)]
    assert found == [(b"a", {7}), (b"b", set()), (b"d", {1, 2}), (b"c", set())]


def test_files_without_a_name_of_ours_are_one_mark() -> None:
    marks = DirtySet()
    marks.add([Change(Op.ATTRIB, Place(1, b""), inode=number) for number in (3, 4, 3)])
    marks.add([Change(Op.MODIFY, Place(0, b""), inode=5), Change(Op.ATTRIB, Place(0, b""), is_dir=True)])
    taken = marks.take(10)
    assert [(mark.place, set(mark.inodes), mark.content) for mark in taken] == [
        (dirty.BY_INODE, {3, 4, 5}, True),
        (Place(0, b""), set(), False),
    ]


def test_many_files_of_one_name_do_not_gather_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "RANGES", 3)
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, at("a"), inode=number) for number in range(1, 5)])
    marks.add([Change(Op.MODIFY, at("a"), inode=9)])
    assert [set(mark.inodes) for mark in marks.take(10)] == [{9}, {1, 2, 3, 4}]


def test_coalescing_keeps_files_whose_name_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "COALESCE_AT", 20)
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, at("d/gone"), inode=1), Change(Op.REMOVE, at("d/gone"))])
    marks.add([Change(Op.MODIFY, at("d/replaced"), inode=2), Change(Op.RENAME, at("d/new"), to=at("d/replaced"))])
    marks.add([Change(Op.ATTRIB, Place(0, b""), inode=3)])
    marks.add([Change(Op.MODIFY, at(f"d/{n}"), inode=100 + n) for n in range(30)])
    found = by_inode(marks)
    assert set(found.inodes) == {1, 2, 3} and found.content and not found.tree


def test_more_files_than_are_kept_are_all_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "COALESCE_AT", 20)
    marks = DirtySet()
    marks.add([Change(Op.ATTRIB, Place(0, b""), inode=number) for number in range(1, 100)])
    found = by_inode(marks)
    assert found.tree and len(found.inodes) <= 20


def test_what_waits_again_keeps_its_age() -> None:
    """Also if the name has a mark already: both are processed, the older one first."""
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, Place(0, b"new")), Change(Op.MODIFY, Place(0, b"large"))])
    newest = marks.take(1)[0].since_ns
    marks.add_aged([(Place(0, b"large"), newest - 2), (Place(0, b"other"), newest - 1)])
    assert marks.oldest_ns == newest - 2
    assert marks.owed(newest - 2)
    taken = marks.take(9)
    assert [mark.place.path for mark in taken] == [b"large", b"other", b"large"]
    assert all(mark.content for mark in taken)
    assert not marks
