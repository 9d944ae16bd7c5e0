"""What is written is written to the last byte, and two holders of a lock exclude each other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.posix.durable import sync_path, write_all
from i2core.posix.locks import lock


@pytest.fixture
def fd(tmp_path: Path) -> int:
    return os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("data", [b"", b"one", bytearray(b"two"), memoryview(b"three")])
def test_short_writes_are_continued(fd: int, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:1], offset))
    write_all(fd, data, 2)
    assert os.pread(fd, 9, 0) == (b"\0\0" + bytes(data) if data else b"")
    os.close(fd)


def test_a_missing_file_cannot_be_synced(tmp_path: Path) -> None:
    sync_path(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_path(tmp_path / "none")


def test_an_exclusive_lock_excludes_others_until_it_is_closed(tmp_path: Path) -> None:
    one, two = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert lock(one, alone=False) and lock(two, alone=False)
    assert not lock(one, alone=True)
    os.close(two)
    assert lock(one, alone=True)
    two = os.open(tmp_path, os.O_RDONLY)
    assert not lock(two, alone=False)
    os.close(one)
    assert lock(two, alone=True)
    os.close(two)
