"""The history of a removed rule: cleared when its time has come, and not before."""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from i2core.api import Code, StopRule
from i2core.api.present import STORE
from i2core.history.retention.lock import Lock
from i2core.history.retention.policy import DAY_NS
from i2core.history.retention.removal import Removal, bring_back, clear
from i2core.history.retention.state import State
from i2core.testing.memory_replica import EMPTY_FILE

from .disk import Disk

BEGIN_NS = 1_790_000_000 * 10**9
BOOT = b"one"


def _journal(lock: Lock | None = None) -> Any:
    state = State(begun_ns=0, floor_ns=0, lock=lock or Lock())
    return SimpleNamespace(segments=[SimpleNamespace(applied_ns=BEGIN_NS)], note=state.encode())


def _mark(directory: Path, journal: Any, *, days: float = 0, grace: float = 7, lock: float = 0) -> Removal:
    reading = BEGIN_NS + int(days * DAY_NS), BOOT, int(days * DAY_NS)
    return Removal.mark(directory, journal, reading, grace_ns=int(grace * DAY_NS), lock_ns=int(lock * DAY_NS))


def _left_days(directory: Path, days: float, *, ahead: float = 0) -> tuple[float, bool]:
    removal = Removal.read(directory)
    assert removal is not None
    reading = BEGIN_NS + int((days + ahead) * DAY_NS), BOOT, int(days * DAY_NS)
    left_ns, is_locked = removal.due(directory, reading)
    return round(left_ns / DAY_NS, 1), is_locked


def test_it_is_due_after_the_grace(tmp_path: Path) -> None:
    _mark(tmp_path, _journal())
    assert [_left_days(tmp_path, days) for days in (1, 6, 7, 9)] == [(6, False), (1, False), (0, False), (0, False)]


def test_a_jump_of_the_system_clock_does_not_shorten_it(tmp_path: Path) -> None:
    _mark(tmp_path, _journal())
    assert _left_days(tmp_path, 3, ahead=1000) == (3.7, False)


def test_a_rule_that_comes_back_has_its_history(tmp_path: Path) -> None:
    _mark(tmp_path, _journal())
    assert bring_back(tmp_path)
    assert not bring_back(tmp_path)
    assert Removal.read(tmp_path) is None


def test_at_once_shortens_a_grace_and_nothing_makes_it_longer(tmp_path: Path) -> None:
    _mark(tmp_path, _journal())
    _mark(tmp_path, _journal(), days=2, grace=30)
    assert _left_days(tmp_path, 3) == (4, False)
    _mark(tmp_path, _journal(), days=3, grace=0)
    assert _left_days(tmp_path, 3) == (0, False)


@pytest.mark.parametrize("lock", [Lock(30 * DAY_NS), Lock(30 * DAY_NS).set(0, BEGIN_NS + 1)])
def test_a_locked_history_stays(tmp_path: Path, lock: Lock) -> None:
    """Also by a lock that was made shorter, for what was written under it."""
    _mark(tmp_path, _journal(lock), grace=0)
    assert _left_days(tmp_path, 29) == (1, True)
    assert _left_days(tmp_path, 30) == (0, False)


def test_a_damaged_note_clears_nothing(tmp_path: Path) -> None:
    (tmp_path / "removed").write_bytes(b"{")
    with pytest.raises(StopRule) as caught:
        Removal.read(tmp_path)
    assert caught.value.code is Code.CDP_CONFIG


def test_clearing_removes_all_and_follows_no_symlink(tmp_path: Path) -> None:
    directory, elsewhere = tmp_path / "history", tmp_path / "elsewhere"
    for place in (directory / "journal" / "segments", directory / "index", elsewhere):
        place.mkdir(parents=True)
    (elsewhere / "precious").write_bytes(b"x")
    (directory / "journal" / "segments" / "1.seg").write_bytes(b"x")
    os.symlink(elsewhere, directory / "index" / "link")
    os.symlink(elsewhere, directory / "other")
    _mark(directory, _journal(), grace=0)
    disk = Disk(random.Random(1))  # noqa: S311
    disk.do("new", disk.inode(EMPTY_FILE), disk.store, b"17")
    assert list(disk.names(disk.directory(STORE))) == [b"17"]
    clear(directory, disk)
    assert not directory.exists()
    assert (elsewhere / "precious").read_bytes() == b"x"
    assert not list(disk.names(disk.directory(STORE)))


def test_a_directory_that_is_a_symlink_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "journal").mkdir(parents=True)
    os.symlink(tmp_path / "elsewhere", tmp_path / "history")
    with pytest.raises(OSError, match=r"."):
        clear(tmp_path / "history", None)
    assert (tmp_path / "elsewhere" / "journal").exists()


def test_clearing_that_was_cut_off_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "history"
    for part in ("journal", "index"):
        (directory / part).mkdir(parents=True)
    _mark(directory, _journal(), grace=0)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda name, **named: (_ for _ in ()).throw(OSError("no")))
        with pytest.raises(OSError, match="no"):
            clear(directory, None)
    assert Removal.read(directory) is not None
    clear(directory, None)
    assert not directory.exists()
