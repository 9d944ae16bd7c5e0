"""The directory fds that one call of the sink has open."""

from __future__ import annotations

import os
from typing import NamedTuple

_NEAR = 4
"""An open directory is searched at most so many levels above."""


class Directory(NamedTuple):
    """An open directory. `guarded`: no user but root and this process's can give names in it."""

    fd: int
    device: int
    guarded: bool


class OpenDirectories:
    """Open directories by root and path."""

    def __init__(self) -> None:
        self.count = 0
        self._by_root: dict[int, dict[bytes, Directory]] = {}
        self._uid = os.geteuid()

    def get(self, root: int, path: bytes) -> Directory | None:
        """The open directory at the path."""
        known = self._by_root.get(root)
        return None if known is None else known.get(path)

    def near(self, root: int, path: bytes) -> tuple[Directory, bytes] | None:
        """An open directory above the path, not far, and the way from there; None: none but the root is.

        So a chain of directories costs as much as its levels. The one right above may have been forgotten by the record
        before, which set its attributes after its entries were made."""
        known, end = self._by_root.get(root), len(path)
        for _ in range(_NEAR if known else 0):
            end = path.rfind(b"/", 0, end)
            if end <= 0 or known is None:
                break
            directory = known.get(path[:end])
            if directory is not None:
                return directory, path[end + 1 :]
        return None

    def hold(self, root: int, path: bytes, fd: int) -> Directory:
        """The directory that was opened at the path; its fd is taken over."""
        status = os.fstat(fd)
        directory = Directory(fd, status.st_dev, self.is_guarded(status))
        self._by_root.setdefault(root, {})[path] = directory
        self.count += 1
        return directory

    def is_guarded(self, status: os.stat_result) -> bool:
        """As `Directory.guarded`."""
        return status.st_uid in (0, self._uid) and not status.st_mode & 0o022

    def forget(self, root: int, path: bytes) -> None:
        """Closes what is open at and beneath the path."""
        known, beneath = self._by_root.get(root), path + b"/"
        if known:
            for stale in [p for p in known if not path or p == path or p.startswith(beneath)]:
                os.close(known.pop(stale).fd)
                self.count -= 1

    def close(self) -> None:
        """Closes all."""
        for known in self._by_root.values():
            for directory in known.values():
                os.close(directory.fd)
        self._by_root.clear()
        self.count = 0
