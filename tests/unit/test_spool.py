"""Batches on disk: kept in order, across restarts, within limits; what a crash tears is cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.rule.outgoing import spool as spool_module
from i2core.rule.outgoing.spool import Quota, Spool
from i2core.wire.session import Sealed


def sealed(first: int, last: int, size: int = 10) -> Sealed:
    """A batch whose content tells it from others."""
    return Sealed(first, last, (b"%d-%d." % (first, last)) * size)


def opened(directory: Path, limit: int = 1 << 30) -> Spool:
    """A spool that took up what lies there."""
    spool = Spool(directory, Quota(limit))
    for _ in spool.open():
        pass
    return spool


def test_batches_come_back_as_they_were(tmp_path: Path) -> None:
    spool = opened(tmp_path / "spool")
    slips = [spool.append(sealed(first, first + 4), 1000 + first) for first in (1, 6, 11)]
    assert [spool.read(slip) for slip in slips] == [sealed(1, 5), sealed(6, 10), sealed(11, 15)]
    spool.close()
    again = Spool(tmp_path / "spool", Quota(1 << 30))
    found = list(again.open())
    assert [(slip.first_seq, slip.last_seq, slip.since_ns) for slip in found] == [
        (1, 5, 1001),
        (6, 10, 1006),
        (11, 15, 1011),
    ]
    assert again.read(found[1]) == sealed(6, 10)


def test_what_is_durable_goes_segment_by_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@given(cut=st.integers(1, 400), flip=st.booleans())
def test_a_torn_or_damaged_tail_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: bool) -> None:
    """Whatever is left of the segment, only whole batches come back, and new ones can follow."""
    directory = tmp_path_factory.mktemp("spool")
    spool = opened(directory)
    slips = [spool.append(sealed(seq, seq), 0) for seq in range(1, 5)]
    spool.close()
    (path,) = directory.iterdir()
    content = bytearray(path.read_bytes())
    cut = min(cut, len(content))
    if flip:
        content[-cut] ^= 0xFF
    else:
        del content[-cut:]
    path.write_bytes(content)
    whole = [slip for slip in slips if slip.offset + slip.size <= len(content) - (cut if flip else 0)]
    again = Spool(directory, Quota(1 << 30))
    found = list(again.open())
    assert [slip.first_seq for slip in found] == [slip.first_seq for slip in whole]
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
    assert not opened(tmp_path).has_room(1)


def test_older_batches_may_be_added_at_the_end(tmp_path: Path) -> None:
    """Memory is written out when the rule ends, though what came later is on disk already."""
    spool = opened(tmp_path)
    spool.append(sealed(11, 20), 0)
    spool.append(sealed(1, 10), 0)
    spool.close()
    again = Spool(tmp_path, Quota(1 << 30))
    assert [slip.first_seq for slip in again.open()] == [1, 11]
