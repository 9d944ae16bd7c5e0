"""Opening a file of the source for reading."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from i2core.posix import file as file_module


@pytest.mark.parametrize("refused", [False, True], ids=["root", "root without CAP_FOWNER"])
def test_the_access_time_is_unchanged_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    (tmp_path / "file").write_text("content")
    real_open, tried = os.open, list[int]()

    def open_as_another(name: bytes, flags: int, *, dir_fd: int) -> int:
        tried.append(flags & os.O_NOATIME)
        if refused and flags & os.O_NOATIME:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        return real_open(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(file_module, "_NOATIME", os.O_NOATIME)
    monkeypatch.setattr(os, "open", open_as_another)
    above = real_open(tmp_path, os.O_RDONLY)
    with file_module.open_file(above, b"file") as file:
        assert (bytes(file.read(0, 100)), file.entry().size) == (b"content", 7)
    assert tried == ([os.O_NOATIME, 0] if refused else [os.O_NOATIME])
    os.close(above)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: bytes, flags: int, *, dir_fd: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        file_module.open_file(0, b"file")
