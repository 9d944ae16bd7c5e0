"""Entries of a directory: attributes that cannot be read at the moment do not count as missing."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from i2core.api.tree import AttributesUnreadable
from i2core.posix import syscalls
from i2core.posix.entries import read_entries, xattrs_at, xattrs_of_fd
from i2core.posix.errnos import READ_FAILED


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def listing_fails(patch: pytest.MonkeyPatch, error: int, *, has_call: bool) -> None:
    """The call that lists attributes fails with that error; without `has_call` it goes by way of /proc."""

    def call(*arguments: object) -> int:
        ctypes.set_errno(error if has_call else errno.ENOSYS)
        return -1

    def listxattr(*arguments: object, **options: object) -> list[str]:
        raise OSError(error, os.strerror(error))

    patch.setattr(syscalls, "_list", call)
    patch.setattr(os, "listxattr", listxattr)


@pytest.mark.parametrize("has_call", [True, False], ids=["call", "proc"])
@pytest.mark.parametrize("error", READ_FAILED, ids=errno.errorcode.get)
def test_a_failed_read_of_attributes_does_not_count_as_none(
    directory: int, monkeypatch: pytest.MonkeyPatch, error: int, has_call: bool
) -> None:
    """If they counted as missing, they would be removed from the replica, and nothing would restore them."""
    listing_fails(monkeypatch, error, has_call=has_call)
    with pytest.raises(AttributesUnreadable) as raised:
        read_entries(directory, [b"file"])
    assert (raised.value.errno, raised.value.filename) == (error, b"file")


@pytest.mark.parametrize("has_call", [True, False], ids=["call", "proc"])
@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EACCES, errno.ENOENT], ids=errno.errorcode.get)
def test_where_there_are_no_attributes_there_are_none(
    directory: int, monkeypatch: pytest.MonkeyPatch, error: int, has_call: bool
) -> None:
    listing_fails(monkeypatch, error, has_call=has_call)
    (entry,) = read_entries(directory, [b"file"])
    assert entry is not None
    assert entry.xattrs == 0


@pytest.mark.parametrize("call", ["listxattr", "getxattr"])
@pytest.mark.parametrize("error", READ_FAILED, ids=errno.errorcode.get)
def test_attributes_that_cannot_be_read_are_not_none(
    directory: int, monkeypatch: pytest.MonkeyPatch, error: int, call: str
) -> None:
    """Of an open file, and of a name."""

    def fail(*arguments: object, **options: object) -> bytes:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "listxattr", lambda *arguments, **options: ["user.one"])
    monkeypatch.setattr(os, call, fail)
    fd = os.open("file", os.O_RDONLY, dir_fd=directory)
    try:
        with pytest.raises(OSError, match=os.strerror(error)):
            xattrs_of_fd(fd)
        with pytest.raises(OSError, match=os.strerror(error)):
            xattrs_at(directory, b"file")
    finally:
        os.close(fd)
