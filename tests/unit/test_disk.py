"""What a full disk lacks: bytes, inodes or quota, on the file system of the path."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from i2core.posix.disk import amount, shortage

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def room(monkeypatch: pytest.MonkeyPatch, **more: int) -> None:
    """A disk of 1 GB with 4096 bytes left."""
    found = SimpleNamespace(
        **{"f_bavail": 1, "f_frsize": 4096, "f_blocks": 244_141, "f_files": 0, "f_favail": 0} | more
    )
    monkeypatch.setattr(os, "statvfs", lambda _where: found)


def test_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, f_files=1000, f_favail=7)
    found = shortage(NO_SPACE, "/data", 2_000_000)
    assert not found.inodes
    assert found.en == "4.1 kB of 1 GB are free, and 2 MB more do not fit"


def test_inodes(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, f_files=1000, f_favail=0)
    found = shortage(NO_SPACE, "/data")
    assert found.inodes
    assert "1000" in found.en
    assert "1000" in found.zh


def test_a_file_system_that_counts_no_inodes_lacks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch)
    assert not shortage(NO_SPACE, "/data").inodes


def test_a_quota_is_reported_as_such() -> None:
    assert "quota" in shortage(OSError(errno.EDQUOT, "Disk quota exceeded"), "/").en


def test_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    assert "free" in shortage(NO_SPACE, str(tmp_path / "no" / "such" / "file")).en


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1 << 40, "1.1 TB"), (10**18, "1e+03 PB")]
)
def test_amounts(count: int, words: str) -> None:
    assert amount(count) == words
