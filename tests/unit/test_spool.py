"""Batches on disk: kept in order, across restarts, within limits; a torn tail is cut off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.rule.outgoing import spool as spool_module
from i2core.rule.outgoing.outbox import Outbox
from i2core.rule.outgoing.spool import Quota, Spool
from i2core.wire.batch import EncodedBatch


def sealed(first: int, last: int, size: int = 10) -> EncodedBatch:
    """A batch with content of its own."""
    return EncodedBatch(first, last, (b"%d-%d." % (first, last)) * size)


def opened(directory: Path, limit: int = 1 << 30) -> Spool:
    """A spool that has loaded its files."""
    spool = Spool(directory, Quota(limit))
    for _ in spool.open():
        pass
    return spool


def test_batches_come_back_as_they_were(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    entries = [spool.append(sealed(first, first + 4), 1000 + first) for first in (1, 6, 11)]
    assert [spool.read(entry) for entry in entries] == [sealed(1, 5), sealed(6, 10), sealed(11, 15)]
    spool.close()
    again = Spool(tmp_path / "spool", Quota(1 << 30))
    found = list(again.open())
    assert [(entry.first_seq, entry.last_seq, entry.since_ns) for entry in found] == [
        (1, 5, 1001),
        (6, 10, 1006),
        (11, 15, 1011),
    ]
    assert again.read(found[1]) == sealed(6, 10)


def test_durable_batches_are_removed_segment_by_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 300)
    quota = Quota(1 << 30)
    spool = Spool(tmp_path, quota)
    for seq in range(1, 11):
        spool.append(sealed(seq, seq), 0)
    files = len(list(tmp_path.iterdir()))
    assert files > 2
    assert quota.used == spool.size == sum(path.stat().st_size for path in tmp_path.iterdir())
    spool.durable(5)
    assert 0 < len(list(tmp_path.iterdir())) < files
    spool.durable(10)
    assert list(tmp_path.iterdir()) == []
    assert quota.used == spool.size == 0


def test_many_segments_hold_one_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 300)
    before = len(os.listdir("/proc/self/fd"))
    spool = opened(tmp_path)
    entries = [spool.append(sealed(seq, seq), 0) for seq in range(1, 31)]
    assert len(list(tmp_path.iterdir())) > 5
    assert len(os.listdir("/proc/self/fd")) == before + 1
    spool.close()
    again = opened(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert [again.read(entry).first_seq for entry in entries] == list(range(1, 31))
    assert list(again.open()) == []
    again.append(sealed(31, 31), 0)
    again.clear()
    assert len(os.listdir("/proc/self/fd")) == before


@given(cut=st.integers(1, 400), flip=st.booleans())
def test_a_torn_or_damaged_tail_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: bool) -> None:
    """Whatever is left of the segment, only whole batches are loaded, and new ones can be added."""
    directory = tmp_path_factory.mktemp("spool")
    spool = opened(directory)
    entries = [spool.append(sealed(seq, seq), 0) for seq in range(1, 5)]
    spool.close()
    (path,) = directory.iterdir()
    content = bytearray(path.read_bytes())
    cut = min(cut, len(content))
    if flip:
        content[-cut] ^= 0xFF
    else:
        del content[-cut:]
    path.write_bytes(content)
    whole = [entry for entry in entries if entry.offset + entry.size <= len(content) - (cut if flip else 0)]
    again = Spool(directory, Quota(1 << 30))
    found = list(again.open())
    assert [entry.first_seq for entry in found] == [entry.first_seq for entry in whole]
    added = again.append(sealed(9, 9), 0)
    assert again.read(added) == sealed(9, 9)
    again.clear()
    assert list(directory.iterdir()) == []


def test_the_quota_is_shared(tmp_path: Path) -> None:
    quota = Quota(500)
    one, other = Spool(tmp_path / "one", quota), Spool(tmp_path / "other", quota)
    for spool in (one, other):
        list(spool.open())
    assert one.has_room(400)
    one.append(sealed(1, 1, size=80), 0)
    assert not other.has_room(400)
    one.durable(1)
    assert other.has_room(400)


def test_the_disk_is_not_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "FREE_BYTES", 1 << 62)
    spool = opened(tmp_path)
    assert not spool.has_room(1)
    lack = spool.lack(1)
    assert lack is not None and "disk" in lack and str(tmp_path.parent) in lack, "it is the disk, and no limit"


def test_the_exhausted_limit_is_reported(tmp_path: Path) -> None:
    assert opened(tmp_path).lack(1) is None
    assert "disk_limit" in str(Spool(tmp_path, Quota(0)).lack(1))
    assert "No such file" in str(Spool(tmp_path / "gone" / "r", Quota(500)).lack(1))
    outbox = Outbox(Quota(0), Spool(tmp_path, Quota(0)))
    assert str(outbox.lack) == "memory_limit is used up; disk_limit is used up"
    assert str(Outbox(Quota(0), None).lack) == "memory_limit is used up"


def test_older_batches_may_be_added_at_the_end(tmp_path: Path) -> None:
    """Batches in memory are written when the rule ends, although later ones are on disk already."""
    spool = opened(tmp_path)
    spool.append(sealed(11, 20), 0)
    spool.append(sealed(1, 10), 0)
    spool.close()
    again = Spool(tmp_path, Quota(1 << 30))
    assert [entry.first_seq for entry in again.open()] == [1, 11]


@pytest.mark.parametrize("call", ["pread", "ftruncate"])
def test_a_spool_that_cannot_be_read_now_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The run starts again and opens it once more: neither descriptors nor the quota may leak each time."""
    monkeypatch.setattr(spool_module, "SEGMENT_BYTES", 100)
    spool = opened(tmp_path)
    for seq in range(1, 10):
        spool.append(sealed(seq, seq, 60), 0)
    spool.close()
    before = len(os.listdir("/proc/self/fd"))
    quota, real, calls = Quota(1 << 30), getattr(os, call), 0

    def fails_late(*arguments: int) -> object:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(12, "Cannot allocate memory")
        return real(*arguments)

    monkeypatch.setattr(os, call, fails_late)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        list(Spool(tmp_path, quota).open())
    assert len(os.listdir("/proc/self/fd")) == before
    assert quota.used == 0
    assert [entry.first_seq for entry in Spool(tmp_path, Quota(1 << 30)).open()] == list(range(1, 10))
