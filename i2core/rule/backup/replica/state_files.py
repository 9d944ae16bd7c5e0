"""The small files of the backup node's own state: read as a whole, replaced durably.

Only functions of `os` are used, as for everything that must survive a crash, so that the simulation can replace the
disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

from i2core.api import Code, I2Error, LinkError, StopRule
from i2core.posix.disk import shortage
from i2core.posix.errnos import FULL, PASSING
from i2core.rule.life.disk_full import code_of_full

PASSING_HERE = frozenset(PASSING) - {errno.ESTALE}
"""The node's own state is on a local disk, where a stale handle is not a passing error."""
MOST_BYTES = 1 << 20
"""No state file is longer."""


def rule_key(peer: str, rule: str) -> str:
    """The prefix of a rule's file names. It is a hash, so that neither a peer nor a rule can choose a path."""
    return hashlib.sha256(f"{peer}\0{rule}".encode()).hexdigest()[:32]


def unkept(error: OSError, path: Path, what: str = "the position") -> I2Error:
    """The error to raise when this node cannot save its state: a person is needed, unless the cause passes by
    itself."""
    if error.errno in PASSING_HERE:
        return LinkError(f"cannot keep {what} now: {error.strerror}", obj=str(path))
    code = code_of_full(error, Code.REPLICATE_FILE)
    lacks = f"; {shortage(error, str(path)).en}" if error.errno in FULL else ""
    return StopRule(f"cannot keep {what}: {error.strerror}{lacks}", code=code, obj=str(path))


def read_file(path: Path) -> bytes:
    """The content."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, MOST_BYTES)
    finally:
        os.close(fd)
