"""Small private files that decide about trust: owned by the node, written as a whole, and safe for several writers.

The daemon and the commands of an administrator may change them at the same time. So a change is made under a lock of
the directory, and replaces the file: a reader needs no lock, and sees the state before or after a change.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from i2core.api import UsageError
from i2core.config.words import bilingual

MOST_BYTES = 4 << 20
"""Far more than thousands of peers need; a larger file was not written by a node."""


@contextmanager
def locked_directory(directory: Path) -> Iterator[int]:
    """Locks the directory; yields its file descriptor.

    Raises:
        OSError: it does not exist, or belongs to another user.
    """
    held = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield held
    finally:
        os.close(held)


def read_private(path: Path, *, unseen: bool) -> bytes:
    """The content of a file that only its owner can write, or (`unseen`) read and write.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be read, or is a symlink.
        UsageError: others may write or read it, it belongs to another user, or it is not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
            raise UsageError(
                bilingual("it is not a regular file of this node's user", "不是本节点用户的普通文件"),
                obj=str(path),
                next_step=bilingual("restore it from a backup, or remove it", "请从备份恢复，或删除它"),
            )
        if found.st_mode & (0o077 if unseen else 0o022):
            mode = f"{stat.S_IMODE(found.st_mode):04o}"
            raise UsageError(
                bilingual(f"others may use it (mode {mode})", f"其他用户可以使用它（权限 {mode}）"),
                obj=str(path),
                next_step=bilingual(
                    "chmod 600 if no other user did; else replace it", "若无人用过，请 chmod 600；否则请更换"
                ),
            )
        return file.read(MOST_BYTES)


def write_new(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Creates a file with durable content; its name is durable once the directory is synced.

    Raises:
        OSError: it exists already, or cannot be written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


class PrivateJson:
    """A JSON document, 0600, in a directory that exists."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Any:
        """The document; None when there is no file.

        Raises:
            UsageError: it is damaged, unreadable, or others may write it.
        """
        try:
            return json.loads(read_private(self.path, unseen=False))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise self.damaged() from error
        except OSError as error:
            raise self._unusable(error) from error

    def write(self, document: Any, directory_fd: int) -> None:
        """Replaces the document; durable on return. `directory_fd` is that of the locked directory.

        Raises:
            UsageError: it cannot be written; the old document is kept.
        """
        unfinished = self.path.with_name(f".{self.path.name}.new")
        try:
            with suppress(FileNotFoundError):
                unfinished.unlink()  # left by a process that crashed here; this process holds the lock
            write_new(unfinished, json.dumps(document, indent=1).encode())
            unfinished.rename(self.path)
            os.fsync(directory_fd)
        except OSError as error:
            raise self._unusable(error) from error

    def damaged(self) -> UsageError:
        """The error for a document that this node did not write."""
        return UsageError(
            bilingual("the file is damaged", "文件已损坏"),
            obj=str(self.path),
            next_step=bilingual(
                "restore it from a backup, or remove it and pair the nodes again", "请从备份恢复，或删除后重新配对节点"
            ),
        )

    def _unusable(self, error: OSError) -> UsageError:
        return UsageError(
            error.strerror or str(error),
            obj=str(self.path),
            next_step=bilingual("check state_dir and its permissions", "请检查 state_dir 及其权限"),
        )
