"""The position of a replica: it survives, it is never half there, and a damaged one is not guessed at."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from i2core.api import Code, Kind, Record, StopRule
from i2core.rule.backup.replica import Position, PositionFile, Replica


def test_a_new_replica_is_at_the_beginning(tmp_path: Path) -> None:
    assert PositionFile(tmp_path / "positions", "web1", "data1").load() == Position("data1", "web1")
    assert list(tmp_path.iterdir()) == []


def test_it_comes_back(tmp_path: Path) -> None:
    kept = Position("data1", "web1", epoch=3, durable_seq=1 << 62)
    PositionFile(tmp_path / "positions", "web1", "data1").save(kept)
    assert PositionFile(tmp_path / "positions", "web1", "data1").load() == kept
    assert stat.S_IMODE((tmp_path / "positions").stat().st_mode) == 0o700


def test_rules_and_peers_are_apart(tmp_path: Path) -> None:
    PositionFile(tmp_path, "a", "bc").save(Position("bc", "a", durable_seq=1))
    for peer, rule in (("ab", "c"), ("a", "b"), ("../a", "bc"), ("a", "名/字\n")):
        assert PositionFile(tmp_path, peer, rule).load().durable_seq == 0


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "7", '{"rule": "r"}', '{"rule": "r", "peer": "p", "x": 1}'])
def test_a_damaged_file_stops_the_rule(tmp_path: Path, damage: str) -> None:
    file = PositionFile(tmp_path, "web1", "data1")
    file.save(Position("data1", "web1", durable_seq=5))
    (path,) = tmp_path.iterdir()
    path.write_text(damage)
    with pytest.raises(StopRule, match="damaged") as stopped:
        file.load()
    assert str(path) in str(stopped.value)
    assert path.read_text() == damage


@pytest.mark.parametrize("damage", [b"\xff\xfe", b'{"rule": "r", "peer": "p", "durable_seq": "5"}'])
def test_other_damage_stops_the_rule_too(tmp_path: Path, damage: bytes) -> None:
    file = PositionFile(tmp_path, "web1", "data1")
    file.save(Position("data1", "web1"))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    with pytest.raises(StopRule, match="damaged"):
        file.load()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    file = PositionFile(tmp_path, "web1", "data1")
    file.save(Position("data1", "web1", durable_seq=5))

    def refuse(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(StopRule, match="No space left"):
            file.save(Position("data1", "web1", durable_seq=6))
    assert file.load().durable_seq == 5
    file.save(Position("data1", "web1", durable_seq=7))
    assert file.load().durable_seq == 7


def test_the_data_reach_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(fd: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file")
        fsync(fd)

    def noted_replace(path: Path, target: Path) -> None:
        steps.append("name")
        replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    PositionFile(tmp_path, "web1", "data1").save(Position("data1", "web1"))
    assert steps == ["file", "name", "directory"]


def replica(tmp_path: Path, said: list[str]) -> Replica:
    """A replica that keeps its position there."""
    return Replica("data1", "web1", tmp_path, lambda code, line: said.append(line))


async def test_a_replica_goes_on_where_it_was_durable(tmp_path: Path) -> None:
    first = replica(tmp_path, [])
    await first.begin(2, [])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    assert (first.applied_seq, first.durable_seq, first.applied_bytes) == (3, 0, 99)
    await first.durable(2)
    again = replica(tmp_path, [])
    assert (again.applied_seq, again.durable_seq, again.position.epoch, again.exact) == (3, 2, 2, True)


async def test_an_older_epoch_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    first = replica(tmp_path, [])
    await first.begin(2, [])
    await first.begin(2, [])
    await first.durable(0)
    for each in (first, replica(tmp_path, [])):
        with pytest.raises(StopRule) as refused:
            each.check(1)
        assert refused.value.code is Code.LOCKED


async def test_nothing_is_released_that_is_not_held(tmp_path: Path) -> None:
    assert not replica(tmp_path, []).release()


async def test_after_a_breakdown_only_what_is_durable_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How far records were applied outlives the process, not the system."""
    first = replica(tmp_path, [])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    await first.durable(2)
    monkeypatch.setattr("i2core.rule.backup.replica.boot_id", lambda: b"another boot....")
    again = replica(tmp_path, [])
    assert (again.applied_seq, again.exact) == (2, False)


async def test_a_breakdown_is_not_forgotten_before_the_work_node_has_heard_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when nothing was durable yet, and whatever ends the process meanwhile."""
    first = replica(tmp_path, [])
    await first.begin(1, [b"/target"])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    monkeypatch.setattr("i2core.rule.backup.replica.boot_id", lambda: b"another boot....")
    for _ in range(2):
        again = replica(tmp_path, [])
        assert (again.applied_seq, again.exact) == (0, False)
    again.heard()
    assert replica(tmp_path, []).exact


async def test_what_failed_in_a_mirror_is_not_forgotten_either(tmp_path: Path) -> None:
    first = replica(tmp_path, [])
    await first.begin(1, [b"/target"])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    first.spoiled()
    first.mark(4)
    again = replica(tmp_path, [])
    assert not again.exact
    again.heard()
    assert replica(tmp_path, []).exact
