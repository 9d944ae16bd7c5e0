"""Reports a full disk as a fault of its own: on which node, and where. A person makes room there and starts the rule
again."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from i2core.api import Code, StopRule
from i2core.config.words import bilingual
from i2core.posix.disk import shortage
from i2core.posix.errnos import FULL

_LEAST_BYTES = 1 << 16
"""With less free space than this, an input/output error of SQLite counts as a full disk."""


def code_of_full(error: OSError, other: Code) -> Code:
    """The code for a failed write on the backup node: its disk is full, or `other`."""
    return Code.REPLICA_FULL if error.errno in FULL else other


@contextmanager
def own_disk(place: Path | None) -> Iterator[None]:
    """For a body that writes only to the work node's own disk, beneath `place` (None: to temporary files).

    Raises:
        StopRule: that disk is full (3610). Any other error of the body is passed on.
    """
    where = place or Path(tempfile.gettempdir())
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _work_full(where, error) from error
    except sqlite3.Error as error:
        if not means_full(error, where):
            raise
        raise _work_full(where, OSError(errno.ENOSPC, str(error))) from error


def means_full(error: sqlite3.Error, where: Path) -> bool:
    """True when the error says that the disk that `where` is on is full."""
    # An error that the Python module raises by itself has no code.
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_IOERR:
        # The index of its write-ahead log is mapped memory, and cannot grow on a full disk either.
        free = os.statvfs(where)
        return free.f_bavail * free.f_frsize < _LEAST_BYTES
    return primary == sqlite3.SQLITE_FULL


def _work_full(where: Path, error: OSError) -> StopRule:
    lacks = shortage(error, str(where))
    return StopRule(
        bilingual(f"no space for the data that the rule keeps: {lacks.en}", f"没有空间保存规则的工作数据：{lacks.zh}"),
        code=Code.WORK_FULL,
        obj=str(where),
        next_step=bilingual("free space there, then start the rule", "释放该处空间后启动规则"),
    )
