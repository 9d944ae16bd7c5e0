"""The position of a replica: it survives, is never half written, and a damaged one is not used."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from i2core.api import Code, Kind, LinkError, Record, StopRule
from i2core.rule.backup.replica.position import Damaged, Position, PositionFile, known_positions
from i2core.rule.backup.replica.replica import Replica


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


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'{"rule": "r"}',
        b'{"rule": "r", "peer": "p", "x": 1}',
        b"\xff\xfe",
        b'{"rule": "data1", "peer": "web1", "durable_seq": "5"}',
        b'{"rule": "data1", "peer": "web1", "targets": [5]}',
        b'{"rule": "data2", "peer": "web1"}',
    ],
)
def test_a_damaged_file_is_not_used(tmp_path: Path, damage: bytes) -> None:
    file = PositionFile(tmp_path, "web1", "data1")
    file.save(Position("data1", "web1", durable_seq=5))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    with pytest.raises(Damaged) as found:
        file.load()
    assert found.value.args[1] == str(path)
    assert path.read_bytes() == damage


def test_no_bit_of_it_changes_unseen(tmp_path: Path) -> None:
    """A changed digit would report records as durable that are not."""
    file = PositionFile(tmp_path, "web1", "data1")
    kept = Position("data1", "web1", epoch=3, durable_seq=1234567, targets=["/b"], roots=["1 2 3 4 5 6 0"])
    file.save(kept)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert file.load() == kept  # the last line's end says nothing
        except Damaged:
            continue


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "web1", "data1")
    file.save(Position("data1", "web1"))
    (path,) = tmp_path.iterdir()
    path.write_text('{"rule": "data1", "peer": "web1", "epoch": 1, "durable_seq": 7, "targets": ["/b"]}')
    assert file.load() == Position("data1", "web1", epoch=1, durable_seq=7, targets=["/b"])


def test_a_rule_whose_position_is_damaged_is_compared(tmp_path: Path) -> None:
    PositionFile(tmp_path, "web1", "data1").save(Position("data1", "web1", epoch=2, durable_seq=5))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-40])
    said: list[Code | None] = []
    found = Replica("data1", "web1", tmp_path, lambda code, line: said.append(code))
    assert said == [Code.POSITION_DAMAGED]
    assert (found.position.anew, found.durable_seq) == (True, 0)
    assert (found.progress.known, found.progress.applied_seq) == (False, 0)


@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_temporary_lack_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: int) -> None:
    file = PositionFile(tmp_path, "web1", "data1")
    file.save(Position("data1", "web1"))

    def refuse(*args: object) -> int:
        raise OSError(lack, os.strerror(lack))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LinkError):
        file.load()


@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_temporary_lack_lets_the_peer_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: int) -> None:
    """What a sink has kept is removed when the targets are others."""
    file = PositionFile(tmp_path, "web1", "data1")
    file.room_for_memory().touch()

    def refuse(*args: object) -> list[str]:
        raise OSError(lack, os.strerror(lack))

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refuse)
        with pytest.raises(LinkError, match="cannot keep"):
            file.forget_memory()
    file.forget_memory()
    assert list(tmp_path.iterdir()) == []


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


async def test_a_replica_continues_where_it_was_durable(tmp_path: Path) -> None:
    first = replica(tmp_path, [])
    await first.begin(2, [])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    assert (first.progress.applied_seq, first.durable_seq, first.counters.bytes) == (3, 0, 99)
    await first.mark_durable(2)
    again = replica(tmp_path, [])
    assert (again.durable_seq, again.position.epoch) == (2, 2)
    assert (again.progress.applied_seq, again.progress.known) == (3, True)


async def test_an_older_epoch_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    first = replica(tmp_path, [])
    await first.begin(2, [])
    await first.begin(2, [])
    await first.mark_durable(0)
    for each in (first, replica(tmp_path, [])):
        with pytest.raises(StopRule) as refused:
            each.check(1)
        assert refused.value.code is Code.LOCKED


async def test_nothing_is_released_that_is_not_held(tmp_path: Path) -> None:
    assert not replica(tmp_path, []).deletes.release()


async def test_after_a_crash_of_the_system_only_durable_records_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last applied seq survives the process, not a crash of the system."""
    first = replica(tmp_path, [])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    await first.mark_durable(2)
    monkeypatch.setattr("i2core.rule.backup.replica.progress.boot_id", lambda: b"another boot....")
    again = replica(tmp_path, [])
    assert (again.progress.applied_seq, again.progress.known) == (2, False)


async def test_a_crash_is_not_forgotten_before_the_work_node_knows_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when nothing was durable yet, and whatever ends the process in between."""
    first = replica(tmp_path, [])
    await first.begin(1, [b"/target"])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    monkeypatch.setattr("i2core.rule.backup.replica.progress.boot_id", lambda: b"another boot....")
    for _ in range(2):
        again = replica(tmp_path, [])
        assert (again.progress.applied_seq, again.progress.known) == (0, False)
    again.progress.mark_known()
    assert replica(tmp_path, []).progress.known


async def test_what_failed_in_a_mirror_is_not_forgotten_either(tmp_path: Path) -> None:
    first = replica(tmp_path, [])
    await first.begin(1, [b"/target"])
    first.applied(1, [Record(Kind.BARRIER, 0, b"")] * 3, 99)
    first.progress.mark_unknown()
    first.progress.mark(4)
    again = replica(tmp_path, [])
    assert not again.progress.known
    again.progress.mark_known()
    assert replica(tmp_path, []).progress.known


@pytest.mark.parametrize("call", ["listdir", "open"])
@pytest.mark.parametrize("lack", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_position_that_cannot_be_read_now_does_not_count_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, lack: int
) -> None:
    """Otherwise its directories would appear to have no owner."""
    PositionFile(tmp_path, "web1", "data1").save(Position("data1", "web1", targets=["/backup/data1"]))

    def lacking(*_: object, **__: object) -> int:
        raise OSError(lack, os.strerror(lack))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, lacking)
        with pytest.raises(LinkError, match="cannot read"):
            known_positions(tmp_path)
    assert [position.rule for position in known_positions(tmp_path)] == ["data1"]


def test_a_directory_of_positions_that_cannot_be_read_needs_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> list[str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "listdir", failing)
    with pytest.raises(StopRule, match="cannot read the positions"):
        known_positions(tmp_path)
