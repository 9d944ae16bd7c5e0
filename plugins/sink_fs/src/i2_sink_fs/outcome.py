"""Tells what a failed record means: its own failure, with or without repair, or the end of the rule's work."""

from __future__ import annotations

import errno
from collections.abc import Callable

from i2_sink_fs.attributes import NoRoomForAttribute
from i2_sink_fs.paths import IllegalPath
from i2core.api import Code, Failure, Place, StopRule

_FULL = (errno.ENOSPC, errno.EDQUOT)
_BROKEN = (errno.EIO, errno.EROFS, errno.EUCLEAN)
_NO_WAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_ADVICE = {
    errno.EACCES: "check the replica's permissions, or run the backup node as root",
    errno.EPERM: "check for an immutable flag (lsattr), or run the backup node as root",
    errno.ENAMETOOLONG: "the replica's file system cannot hold this name; shorten it on the work node",
    errno.EBUSY: "a mount point lies in the replica; unmount it",
    errno.EFBIG: "the replica's file system cannot hold a file of this size",
    errno.EMLINK: "the replica's file system allows no more links to this file",
    errno.EXDEV: "another file system is mounted in the replica; unmount it",
    errno.EOPNOTSUPP: "the replica's file system lacks this; choose another one",
    errno.EMFILE: "raise the backup node's limit of open files (ulimit -n)",
    errno.ETXTBSY: "a program of the replica is running; stop it",
}


class Drift(Exception):
    """The replica is not as the source believes. `path`: what to compare, where it is not the record's own."""

    def __init__(self, cause: str, path: bytes | None = None) -> None:
        super().__init__(cause)
        self.path = path


def stop(error: OSError, obj: str) -> StopRule:
    """The StopRule for an error that nothing but a person mends."""
    if error.errno in _FULL:
        return StopRule(
            f"no space left for the replica: {error.strerror}",
            code=Code.REPLICA_FULL,
            obj=obj,
            next_step=Code.REPLICA_FULL.text.next_en,
        )
    return StopRule(
        f"the replica's file system fails: {error.strerror}",
        code=Code.REPLICATE_FILE,
        obj=obj,
        next_step="see the kernel's log, check the disk, then start the rule",
    )


def judge(error: Exception, seq: int, place: Place, show: Callable[[Place], str]) -> Failure:
    """The failure of one record; `show` gives paths for people.

    Raises:
        StopRule: the error is not this record's alone: disk full, read-only, input/output error.
    """
    if isinstance(error, Drift):
        where = place if error.path is None else Place(place.root, error.path)
        return Failure(seq, where, Code.OPEN_REPLICA, f"{error}; it is compared again", repair=True)
    if isinstance(error, IllegalPath):
        return Failure(seq, place, Code.ILLEGAL_PATH, f"{error}; it is left out")
    if isinstance(error, NoRoomForAttribute):
        return Failure(seq, place, Code.SAVE_ATTRIBUTES, f"{error}; shorten it, or choose another file system")
    if not isinstance(error, OSError):
        return Failure(seq, place, Code.MESSAGE_TYPE, f"{error}; check both nodes' versions")
    if error.errno in _FULL or error.errno in _BROKEN:
        raise stop(error, show(place)) from error
    if error.errno in _NO_WAY:
        return Failure(
            seq,
            place,
            Code.OPEN_REPLICA,
            f"it or its directory is missing here ({error.strerror}); it is compared again",
            True,
        )
    advice = _ADVICE.get(error.errno or 0, "check the replica's file system")
    code = Code.OPEN_REPLICA if error.errno in (errno.EACCES, errno.EPERM) else Code.REPLICATE_FILE
    return Failure(seq, place, code, f"{error.strerror}; {advice}")
