"""Traits of a file system: the owner of its new files, whether it keeps modes, which times it can hold. Found out with
a file without a name, once for each file system and sink."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import NamedTuple

from i2core.api import Times
from i2core.api.drivers import EVERY_TIME

_UNNAMED = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
_NAMED = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_UNNAMED = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_S = 10**9
_ODD_NS = 1_000_000_001 * _S + 999_999_999
"""An odd second with its last nanosecond: any rounding by the file system is visible."""
_GRAINS = (1, 100, 1000, 1_000_000, _S, 2 * _S)
_FAR_S = 1 << 40


class Traits(NamedTuple):
    """`uid` is the owner of what this process makes there (not its own where NFS maps root), `modes` False where no
    mode can be set (vfat)."""

    uid: int
    modes: bool
    times: Times

    def is_private(self, status: os.stat_result) -> bool:
        """True for a directory that this process made for itself, as far as the file system can tell."""
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self.uid:
            return False
        return not self.modes or status.st_mode & 0o777 == 0o700


def probe(directory: bytes, name: bytes) -> Traits | None:
    """The traits of the file system of an open directory (its `proc_path`). `name` is free there, for file systems that
    have no files without a name.

    Returns: None when that cannot be found out now (full, read-only, no permission).
    """
    try:
        try:
            fd = os.open(directory, _UNNAMED, 0o600)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            fd = _named(directory, name)
        try:
            status = os.fstat(fd)
            return Traits(status.st_uid, status.st_mode & 0o777 == 0o600, _times(fd))
        finally:
            os.close(fd)
    except OSError:
        return None


def _named(directory: bytes, name: bytes) -> int:
    path = directory + b"/" + name
    before = os.stat(directory)
    fd = os.open(path, _NAMED, 0o600)
    os.unlink(path)
    with contextlib.suppress(OSError):
        os.utime(directory, ns=(before.st_mtime_ns, before.st_mtime_ns))
    return fd


def _times(fd: int) -> Times:
    def kept(time_ns: int) -> int:
        os.utime(fd, ns=(time_ns, time_ns))
        return os.fstat(fd).st_mtime_ns

    odd = kept(_ODD_NS)
    grain = next((grain for grain in _GRAINS if _ODD_NS // grain * grain == odd), 1)
    latest, earliest = kept(_FAR_S * _S), kept(-_FAR_S * _S)
    return Times(
        EVERY_TIME.earliest_ns if earliest == -_FAR_S * _S else earliest,
        EVERY_TIME.latest_ns if latest == _FAR_S * _S else latest,
        grain,
    )
