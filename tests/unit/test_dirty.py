"""The dirty set: coalesces, keeps the order of moves, and folds instead of growing."""

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
    """What the marks name, in order."""
    return [mark.place.path.decode() for mark in marks]


def test_a_hot_file_is_one_mark() -> None:
    marks = DirtySet()
    marks.add([Change(Op.MODIFY, at("hot")), Change(Op.MODIFY, at("cold"))])
    marks.add([Change(Op.MODIFY, at("hot"))] * 1000)
    assert paths(marks.take(10)) == ["hot", "cold"]
    assert marks.captured == 1002
    assert len(marks) == 0


def test_moves_keep_their_order_and_the_old_name_is_looked_at_behind() -> None:
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


def test_too_many_places_fold_into_directories_and_none_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirty, "FOLD_AT", 100)
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
    assert not marks.has_since(before)
    marks.put_back(taken)
    assert marks.has_since(before)
    assert paths(marks.take(10)) == ["a", "b", "c"]


def test_a_moved_directory_is_compared_as_a_whole() -> None:
    marks = DirtySet()
    marks.add([Change(Op.RENAME, at("a"), is_dir=True, to=Place(1, b"b")), Change(Op.RENAME, at("f"), to=at("g"))])
    assert {mark.place: mark.tree for mark in marks.take(9) if mark.moved_from} == {
        Place(1, b"b"): True,
        at("g"): False,
    }
