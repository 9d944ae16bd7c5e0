"""A full disk is a fault with a name: on which node, and where. A human makes room, and starts the rule again."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from i2core.api import Code, StopRule
from i2core.config.words import Spoken

FULL = (errno.ENOSPC, errno.EDQUOT)
_LEAST_BYTES = 1 << 16
"""With less room than this, what SQLite calls an input/output error is a full disk."""


def code_of_full(error: OSError, other: Code) -> Code:
    """What an error of a write on the backup node means: its disk is full, or `other`."""
    return Code.REPLICA_FULL if error.errno in FULL else other


@contextmanager
def own_disk(place: Path | None) -> Iterator[None]:
    """For the work side, which writes to no disk but its own: beneath `place` (None: to temporary files).

    Raises:
        StopRule: that disk is full (3610). Any other error of the body as it is.
    """
    where = place or Path(tempfile.gettempdir())
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _work_full(where, error.strerror or str(error)) from error
    except sqlite3.Error as error:
        if not means_full(error, where):
            raise
        raise _work_full(where, str(error)) from error


def means_full(error: sqlite3.Error, where: Path) -> bool:
    """True when the error says that the disk that `where` is on is full."""
    # An error of the module's own has no code.
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_IOERR:
        # The index of its write-ahead log is mapped memory, and cannot grow on a full disk either.
        free = os.statvfs(where)
        return free.f_bavail * free.f_frsize < _LEAST_BYTES
    return primary == sqlite3.SQLITE_FULL


def _work_full(where: Path, why: str) -> StopRule:
    return StopRule(
        Spoken.of(f"no space left for what the rule must remember: {why}", f"没有空间保存规则所需的信息：{why}"),
        code=Code.WORK_FULL,
        obj=str(where),
        next_step=Spoken.of("free space there, then start the rule", "释放该处空间后启动规则"),
    )
