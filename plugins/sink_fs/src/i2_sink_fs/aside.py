"""Moves or copies an object out of the replica into a directory of set-aside objects."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Sequence

from i2_sink_fs.allowed import make_directories, open_allowed
from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.present.copying import copy_durably
from i2_sink_fs.present.objects import Spot, opened
from i2core.api import Code, Place, StopRule, UsageError
from i2core.posix.errnos import FULL, GONE
from i2core.posix.opening import DIRECTORY, READABLE

_NAME_BYTES = 255


def set_aside(
    directories: Directories, allowed: Sequence[bytes], place: Place, destination: bytes, kept: Kept, *, stays: bool
) -> None:
    """As `Sink.set_aside`; `stays`: as `Sink.copy_aside`. Directories that it makes on the way get the mode and owner
    of those in the replica.

    Raises:
        UsageError: the destination is not beneath an allowed directory, or is on another file system.
        StopRule: the destination cannot be written to.
    """
    base, relative = open_allowed(destination, allowed)
    try:
        try:
            source, name = directories.locate(*place)
            os.stat(name, dir_fd=source.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno in GONE:
                return
            raise
        try:
            fd = make_directories(base, relative)
            fd = _make_like(fd, directories, place.root, place.path.rpartition(b"/")[0])
            try:
                if stays:
                    _copy(Spot(source.fd, name), fd, kept)
                else:
                    with kept.volumes.changing(source), kept.flags.lifted(source.fd, name):
                        _move(source.fd, name, fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise _refused(error, place, os.fsdecode(destination)) from error
    finally:
        os.close(base)
    directories.gone(place.root, place.path)


def _refused(error: OSError, place: Place, destination: str) -> UsageError | StopRule:
    if error.errno == errno.EXDEV:
        return UsageError(
            "the directory for orphans is on another file system than the replica",
            code=Code.ILLEGAL_PATH,
            obj=destination,
            next_step="choose a directory on the replica's file system",
        )
    return StopRule(
        f"cannot set {os.fsdecode(place.path)!r} aside: {error.strerror}",
        code=Code.REPLICA_FULL if error.errno in FULL else Code.REPLICATE_FILE,
        obj=destination,
        next_step="check the directory for orphans, then start the rule",
    )


def _make_like(fd: int, directories: Directories, root: int, path: bytes) -> int:
    """Makes and opens `path` beneath `fd`, each new directory as private as its model in the replica; closes `fd`."""
    so_far = b""
    for part in path.split(b"/") if path else ():
        so_far = so_far + b"/" + part if so_far else part
        try:
            try:
                os.mkdir(part, 0o700, dir_fd=fd)
                model = os.stat(b"/proc/self/fd/%d" % directories.find(root, so_far).fd)
                deeper = os.open(part, READABLE, dir_fd=fd)
                if os.geteuid() == 0:
                    os.chown(deeper, model.st_uid, model.st_gid)
                os.chmod(deeper, model.st_mode & 0o7777)
            except FileExistsError:
                deeper = os.open(part, DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _move(source_fd: int, name: bytes, target_fd: int) -> None:
    os.rename(name, _free(name, target_fd), src_dir_fd=source_fd, dst_dir_fd=target_fd)


def _copy(spot: Spot, target_fd: int, kept: Kept) -> None:
    fd = opened(spot)
    if fd is None:
        return
    try:
        kept.volumes.hold(target_fd, os.fstat(target_fd).st_dev)
        copy_durably(fd, Spot(target_fd, _free(spot.name, target_fd)), target_fd, kept)
    finally:
        os.close(fd)


def _free(name: bytes, directory: int) -> bytes:
    """The name, or a numbered one if it is taken."""
    for number in itertools.count():
        tail = b".%d" % number if number else b""
        free = name[: _NAME_BYTES - len(tail)] + tail
        try:
            os.stat(free, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return free
    raise AssertionError
