"""Tells what is in the replica: entries, names, counts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Sequence

from i2_sink_fs.paths import (
    READABLE,
    Directories,
    Directory,
    IllegalPath,
    is_name,
    open_directory,
    proc_path,
    split,
    staging_name,
)
from i2core.api import RESERVED_PREFIX, Place
from i2core.api.drivers import Ask, Seen
from i2core.api.entries import read_entries

_CONTENT = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# What may not be looked at counts as missing, too: the record that is then sent fails with the reason.
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)


def _find(directories: Directories, root: int, path: bytes) -> Directory | None:
    try:
        return directories.find(root, path)
    except IllegalPath:
        return None
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        return None


def _locate(directories: Directories, place: Place) -> tuple[Directory | None, bytes]:
    try:
        above, name = split(place.path)
    except IllegalPath:
        return None, b""
    return _find(directories, place.root, above), name


def open_content(directories: Directories, place: Place, *, staged: bool) -> int:
    """The file at `place`, or its staging file, for reading; -1 when it is no regular file."""
    directories.trim()
    directory, name = _locate(directories, place)
    if directory is None:
        return -1
    if staged:
        name = staging_name(name)
    try:
        # looked at before it is opened: opening a device can already act on it
        if stat.S_ISREG(os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode):
            return os.open(name, _CONTENT, dir_fd=directory.fd)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    return -1


def look(directories: Directories, asks: Sequence[Ask]) -> list[Seen]:
    """As `Sink.look`."""
    answers = []
    for ask in asks:
        directories.trim()
        answers.append(_answer(_find(directories, *ask.place), ask))
    return answers


def _answer(directory: Directory | None, ask: Ask) -> Seen:
    if directory is None:
        return Seen(None, [None] * len(ask.names), ())
    (here,) = read_entries(directory.fd, (b".",), _MISSING)
    names: list[bytes] = []
    leftovers = False
    if ask.every:
        try:
            every = os.listdir(proc_path(directory.fd))
            names = [n for n in every if not n.startswith(RESERVED_PREFIX)]
            leftovers = len(names) < len(every)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
    strange = {n for n in ask.names if n.startswith(RESERVED_PREFIX) or not is_name(n)}
    if not strange:
        return Seen(here, read_entries(directory.fd, ask.names, _MISSING), names, leftovers)
    found = iter(read_entries(directory.fd, [n for n in ask.names if n not in strange], _MISSING))
    return Seen(here, [None if n in strange else next(found) for n in ask.names], names, leftovers)


def leftovers(directory: Directory, staged: Collection[bytes]) -> list[bytes]:
    """The sink's own names in a directory, but for the staging files of the names in `staged`."""
    kept = {staging_name(name) for name in staged}
    return [n for n in os.listdir(proc_path(directory.fd)) if n.startswith(RESERVED_PREFIX) and n not in kept]


def find(directories: Directories, place: Place) -> Directory | None:
    """The directory at `place`; None when there is none."""
    return _find(directories, place.root, place.path)


def count(directories: Directories, place: Place, limit: int) -> int:
    """As `Sink.count`: a walk whose memory grows with the directories that wait, not with the files."""
    root = _find(directories, place.root, b"")
    if root is None:
        return 0
    if place.path:
        directory, name = _locate(directories, place)
        try:
            mode = 0 if directory is None else os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            mode = 0
        if not stat.S_ISDIR(mode):
            return min(limit, 1 if mode else 0)
    total = 0
    waiting = [place.path]
    while waiting and total < limit:
        path = waiting.pop()
        try:
            fd = open_directory(root.fd, path, READABLE)
        except OSError as error:
            if error.errno in _MISSING:
                continue  # gone meanwhile
            raise
        try:
            with os.scandir(proc_path(fd)) as listing:
                for entry in listing:
                    if entry.name.startswith(RESERVED_PREFIX):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(path + b"/" + entry.name if path else entry.name)
                    else:
                        total += 1
                        if total >= limit:
                            break
        finally:
            os.close(fd)
    return min(total, limit)
