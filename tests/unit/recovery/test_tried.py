"""The record of recoveries that were tried."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from i2core.recovery import tried


def note(place: Path, now_ns: int) -> tried.Tried:
    """A recovery begins."""
    return tried.begin(place, rule="data1", moment="yesterday", to="/to", now_ns=now_ns)


def test_nothing_was_tried(tmp_path: Path) -> None:
    assert tried.read_tried(tmp_path / "missing") == []


def test_the_latest_comes_first(tmp_path: Path) -> None:
    place = tried.place_of(tmp_path, "web1", "data1")
    first = note(place, 1)
    tried.end(place, attrs.evolve(first, outcome="proved", ended_ns=2 * 10**9 + 1, files=7))
    note(place, 5)
    later, earlier = tried.read_tried(place)
    assert (later.outcome, later.seconds) == ("interrupted", None)
    assert (earlier.outcome, earlier.seconds, earlier.files) == ("proved", 2.0, 7)


def test_rules_do_not_share_their_records(tmp_path: Path) -> None:
    note(tried.place_of(tmp_path, "web1", "data1"), 1)
    assert tried.read_tried(tried.place_of(tmp_path, "web2", "data1")) == []


@pytest.mark.parametrize("damage", [b"{", b'{"id": 1}\n', b"\xff\n", b"\0" * 20, b"[]\n", b"null\n"])
def test_a_torn_line_takes_no_other_with_it(tmp_path: Path, damage: bytes) -> None:
    note(tmp_path, 1)
    with (tmp_path / "tried.jsonl").open("ab") as file:
        file.write(damage)
    note(tmp_path, 2)
    assert [each.begun_ns for each in tried.read_tried(tmp_path)] == [2, 1]


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tried, "KEPT", 5)
    for number in range(30):
        note(tmp_path, number)
    found = [each.begun_ns for each in tried.read_tried(tmp_path)]
    assert found == sorted(range(30 - len(found), 30), reverse=True)
    assert 5 <= len(found) <= 11
