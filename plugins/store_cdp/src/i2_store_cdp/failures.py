"""What a failed system call means for the journal: no room, passing lack, or a disk that a person must look at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from i2core.api import Code, StopRule
from i2core.api.journal import JournalFull
from i2core.posix.disk import shortage
from i2core.posix.errnos import FULL, PASSING
from i2core.posix.path_text import shown


class SyncFailed(Exception):
    """fsync(2) or fdatasync(2) failed: what was written since the last one may be lost, and a second call that succeeds
    says nothing about it."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def translated(directory: bytes, doing: str, code: Code) -> Iterator[None]:
    """Raises what failed in the block as the contract has it. A passing error goes through: the call is repeated.

    Raises:
        JournalFull: no room.
        StopRule: with this code, anything else.
    """
    try:
        yield
    except SyncFailed as error:
        cause = f"cannot {doing}: the disk failed to store it ({error.cause.strerror})"
        raise StopRule(cause, code=code, obj=shown(directory), next_step=_CHECK_DISK) from error
    except OSError as error:
        if error.errno in PASSING:
            raise
        if error.errno in FULL:
            lack = shortage(error, shown(directory)).en
            cause = f"cannot {doing}: {lack}"
            raise JournalFull(cause, code=code, obj=shown(directory), next_step=_FREE_ROOM) from error
        cause = f"cannot {doing}: {error.strerror}"
        raise StopRule(cause, code=code, obj=shown(directory), next_step=_CHECK_DISK) from error


_CHECK_DISK = "check the disk of the CDP directory, then start the rule"
_FREE_ROOM = "free space there, or keep a shorter history"
