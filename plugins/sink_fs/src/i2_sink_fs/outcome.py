"""Classifies the error of a record: a failure of this record, with or without repair, or a reason to stop the rule."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from i2_sink_fs.attributes import NoRoomForAttribute
from i2_sink_fs.paths import IllegalPath
from i2core.api import Code, Failure, Place, StopRule
from i2core.posix.disk import shortage
from i2core.posix.errnos import BROKEN, FULL, GONE, UNFIT

_ROOM_BYTES, _ROOM_FILES = 16 << 20, 64
"""A disk with so much free space is not full, even if an object gets ENOSPC."""
_ADVICE = {
    errno.EACCES: "check the replica's permissions, or run the backup node as root",
    errno.EPERM: "check for an immutable flag (lsattr), or run the backup node as root",
    errno.ENAMETOOLONG: "the replica's file system cannot hold this name; shorten it on the work node",
    errno.EBUSY: "a file system is mounted in the replica; unmount it",
    errno.EFBIG: "the replica's file system cannot hold a file of this size",
    errno.EMLINK: "the replica's file system allows no more links to this file",
    errno.EXDEV: "another file system is mounted in the replica; unmount it",
    errno.EOPNOTSUPP: "the replica's file system does not support this; choose another one",
    errno.ENOSPC: "the disk has free space: check quotas, and whether a directory can hold no more names",
    errno.EDQUOT: "raise the quota of its owner or project",
    errno.ETXTBSY: "a program in the replica is running; stop it",
}


class Drift(Exception):
    """The replica differs from what the work node expects. `path`: the path to compare, if not that of the record."""

    def __init__(self, cause: str, path: bytes | None = None) -> None:
        super().__init__(cause)
        self.path = path


def stop(error: OSError, obj: str, needed: int = 0) -> StopRule:
    """The StopRule for an error at the path `obj` that only an administrator can repair. `needed`: bytes that were to
    be written."""
    if error.errno in FULL:
        lacks = shortage(error, obj, needed)
        code = Code.REPLICA_NO_INODES if lacks.inodes else Code.REPLICA_FULL
        return StopRule(f"no room for the replica: {lacks.en}", code=code, obj=obj, next_step=code.text.next_en)
    return StopRule(
        f"the replica's file system reports an error: {error.strerror}",
        code=Code.REPLICATE_FILE,
        obj=obj,
        next_step="see the kernel's log, check the disk, then start the rule",
    )


def has_room(fd: int) -> bool:
    """True when the file system of an open directory has room, so that an ENOSPC comes from a quota or from a directory
    that can hold no more names."""
    room = os.fstatvfs(fd)
    return room.f_bavail * room.f_frsize >= _ROOM_BYTES and (not room.f_files or room.f_favail >= _ROOM_FILES)


def judge(
    error: Exception,
    seq: int,
    place: Place,
    show: Callable[[Place], str],
    room: Callable[[], bool] = lambda: False,
    *,
    needed: int = 0,
) -> Failure:
    """The failure of one record, which was to write `needed` bytes. If it needs an administrator, its message begins
    with the path on the replica, as `show` gives it. `room` returns whether the file system has free space.

    Raises:
        StopRule: the error concerns more than this record: disk full, read-only, input/output error.
    """
    if isinstance(error, OSError) and (error.errno in BROKEN or (error.errno in FULL and not room())):
        raise stop(error, show(place), needed) from error
    if isinstance(error, IllegalPath):
        return Failure(seq, place, Code.ILLEGAL_PATH, f"{error}; it is left out")
    failure = _judged(error, seq, place)
    # There may be very many failures that are repaired by a compare: their messages need no path.
    return failure if failure.repair else failure._replace(message=f"replica {show(failure.place)}: {failure.message}")


def _judged(error: Exception, seq: int, place: Place) -> Failure:
    if isinstance(error, Drift):
        where = place if error.path is None else Place(place.root, error.path)
        return Failure(seq, where, Code.OPEN_REPLICA, f"{error}; it is compared again", repair=True)
    if isinstance(error, NoRoomForAttribute):
        return Failure(seq, place, Code.SAVE_ATTRIBUTES, f"{error}; shorten it, or choose another file system")
    if not isinstance(error, OSError):
        return Failure(seq, place, Code.MESSAGE_TYPE, f"{error}; check both nodes' versions")
    if error.errno in GONE:
        return Failure(
            seq,
            place,
            Code.OPEN_REPLICA,
            f"the object or its directory is missing here ({error.strerror}); it is compared again",
            True,
        )
    advice = _ADVICE.get(error.errno or 0, "check the replica's file system")
    if error.errno in UNFIT:
        return Failure(seq, place, Code.REPLICA_UNFIT, f"{error.strerror}; {advice}")
    code = Code.OPEN_REPLICA if error.errno in (errno.EACCES, errno.EPERM) else Code.REPLICATE_FILE
    return Failure(seq, place, code, f"{error.strerror}; {advice}")
