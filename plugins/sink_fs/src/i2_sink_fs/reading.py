"""Reads the replica: entries, names, counts."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import find as find_status
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import IllegalPath, exists, open_directory, proc_path
from i2_sink_fs.staging import Staging
from i2core.api import Entry, Place, check_cancelled
from i2core.api.drivers import Ask, Seen
from i2core.api.names import NAME_COST, NAMES_BYTES, paged
from i2core.api.records import safe_name
from i2core.posix.entries import read_entries
from i2core.posix.errnos import GONE
from i2core.posix.opening import CONTENT, READABLE
from i2core.posix.syscalls import born_ns

CHECKED = 1000
"""Objects that are counted until it is checked again whether anybody still waits for the result."""
# A path without access counts as missing too: the record that is then sent fails with the reason.
_MISSING = (*GONE, errno.EACCES, errno.ENAMETOOLONG)


def _find(directories: Directories, root: int, path: bytes, *, compares: bool = False) -> Directory | None:
    try:
        return directories.find(root, path, compares=compares)
    except IllegalPath:
        return None
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        return None


def _locate(directories: Directories, place: Place) -> tuple[Directory | None, bytes]:
    try:
        return directories.locate(*place)
    except IllegalPath:
        return None, b""
    except OSError as error:
        if error.errno not in _MISSING:
            raise
        return None, b""


def open_content(directories: Directories, place: Place, staging: Staging | None = None) -> int:
    """The file at `place`, or with `staging` its staging file there, for reading; -1 when it is no regular file."""
    directories.trim()
    directory, name = _locate(directories, place)
    if directory is None:
        return -1
    fd = directory.fd
    if staging is not None:
        staged = staging.staged(place)
        if staged is None:
            return -1
        fd, name = staged
    try:
        # The type is checked before the file is opened: opening a device can already act on it.
        if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            return os.open(name, CONTENT, dir_fd=fd)
    except OSError as error:
        if error.errno not in _MISSING:
            raise
    return -1


def look(directories: Directories, staging: Staging, asks: Sequence[Ask], kept: Kept) -> list[Seen]:
    """As `Sink.look`."""
    answers = []
    left = NAMES_BYTES
    lacking: Place | None = None
    for ask in asks:
        check_cancelled()
        directories.trim()
        # Nothing is searched beneath a directory that was missing a moment ago: in a new deep tree, each directory
        # would be searched by its whole path.
        beneath = lacking is not None and _is_beneath(ask.place, lacking)
        directory = None if beneath else _find(directories, *ask.place, compares=ask.whole)
        if directory is None:
            lacking = lacking if beneath else ask.place
            answers.append(Seen(None, [None] * len(ask.names), ()))
            continue
        answer = _answer(directory, ask, kept, left)
        answer = answer._replace(entries=[_vouched(directories, directory, ask, found) for found in answer.entries])
        traits = kept.traits(ask.place.root, directory)
        own = None if kept.attributes.owns else traits.uid
        answer = answer._replace(times=traits.times, flags=kept.flags.held(directory.device), own=own)
        answer = answer._replace(sheltered=directories.guarded(*ask.place))
        if ask.every and not answer.leftovers:
            answer = answer._replace(leftovers=staging.leftovers(*ask.place))
        left -= sum(map(len, answer.names)) + len(answer.names) * NAME_COST if answer.names else 0
        answers.append(answer)
    return answers


def _vouched(directories: Directories, directory: Directory, ask: Ask, found: Entry | None) -> Entry | None:
    """An entry of the answer; nothing in the place of a directory that was exchanged: so it is made again."""
    if found is None or not stat.S_ISDIR(found.mode):
        return found
    root, path = ask.place.child(found.name)
    return found if directories.vouches(directory, root, path, compares=ask.whole) else None


def _is_beneath(place: Place, top: Place) -> bool:
    return place.root == top.root and place.path.startswith(top.path + b"/" if top.path else b"")


def pages(open_: Directories, place: Place) -> Generator[list[bytes], None, None]:
    """As `Sink.names`."""
    with open_ as directories:
        directory = _find(directories, *place)
        if directory is not None:
            reserved = directories.reserved[place.root]
            yield from paged(name for name in _every_name(directory) if name not in reserved)


def _every_name(directory: Directory) -> Iterator[bytes]:
    """The names one by one: a directory may have more names than fit into memory."""
    try:
        with os.scandir(proc_path(directory.fd)) as listing:
            for entry in listing:
                yield entry.name
    except OSError as error:
        if error.errno not in _MISSING:
            raise


def _names(
    directory: Directory, own: bytes, reserved: frozenset[bytes], most_bytes: int
) -> tuple[list[bytes] | None, bool]:
    """The names in a directory without the reserved ones, None when they take more than `most_bytes`; and whether
    `own`, which is reserved, is there."""
    names: list[bytes] = []
    ours = False
    for name in _every_name(directory):
        if name in reserved:
            ours = ours or name == own
            continue
        most_bytes -= len(name) + NAME_COST
        if most_bytes < 0:
            return None, ours or exists(directory.fd, own)
        names.append(name)
    return names, ours


def _answer(directory: Directory, ask: Ask, kept: Kept, most_bytes: int) -> Seen:
    flags, own, reserved = kept.flags.on, kept.names.private[ask.place.root], kept.names.reserved[ask.place.root]
    (here,) = read_entries(directory.fd, (b".",), _MISSING, flags=flags)
    names, leftovers = _names(directory, own, reserved, most_bytes) if ask.every else ([], False)
    strange = {n for n in ask.names if n in reserved or not safe_name(n)}
    if not strange:
        return Seen(here, read_entries(directory.fd, ask.names, _MISSING, flags=flags), names, leftovers)
    found = iter(read_entries(directory.fd, [n for n in ask.names if n not in strange], _MISSING, flags=flags))
    return Seen(here, [None if n in strange else next(found) for n in ask.names], names, leftovers)


def find(directories: Directories, place: Place) -> Directory | None:
    """The directory at `place`; None when there is none."""
    return _find(directories, place.root, place.path)


def born(directories: Directories, place: Place, names: Sequence[bytes]) -> list[int]:
    """As `Sink.born`."""
    directory = _find(directories, *place)
    if directory is None:
        return [0] * len(names)
    found = []
    for name in names:
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
        except OSError as error:
            if error.errno not in _MISSING:
                raise
            found.append(0)
            continue
        try:
            found.append(born_ns(fd))
        finally:
            os.close(fd)
    return found


class HardLinks:
    """Counts an object that has several names once: with its first, or with `all_of_them` with its last name."""

    def __init__(self, *, all_of_them: bool = False) -> None:
        self._all = all_of_them
        self._seen: dict[tuple[int, int], int] = {}
        """Names so far of objects that have others still to come, by device and inode."""

    def counts(self, status: os.stat_result) -> bool:
        """True when the object counts with this name."""
        if status.st_nlink < 2:
            return True
        key = (status.st_dev, status.st_ino)
        seen = self._seen.pop(key, 0) + 1
        if seen < status.st_nlink:
            self._seen[key] = seen
        return seen == (status.st_nlink if self._all else 1)


def count(directories: Directories, place: Place, limit: int, links: HardLinks) -> int:
    """How many objects `links` counts at or beneath the place, up to `limit`. The walk remembers the directories that
    it has not visited yet, and the objects of which it has met some names but not all."""
    root = _find(directories, place.root, b"")
    if root is None:
        return 0
    if place.path:
        directory, name = _locate(directories, place)
        status = None if directory is None else find_status(directory, name)
        if status is None or not stat.S_ISDIR(status.st_mode):
            return min(limit, int(status is not None and links.counts(status)))
    total, reserved = 0, directories.reserved[place.root]
    waiting = [place.path]
    while waiting and total < limit:
        check_cancelled()
        with closing(_others(root.fd, waiting.pop(), reserved, waiting)) as found:
            for number, status in enumerate(found, 1):
                if not number % CHECKED:
                    check_cancelled()
                total += links.counts(status)
                if total >= limit:
                    break
    return min(total, limit)


def _others(
    root_fd: int, path: bytes, reserved: frozenset[bytes], deeper: list[bytes]
) -> Generator[os.stat_result, None, None]:
    """The objects in a directory that are not directories; the paths of those go to `deeper`."""
    try:
        fd = open_directory(root_fd, path, reserved, READABLE)
    except OSError as error:
        if error.errno in _MISSING:
            return  # gone meanwhile
        raise
    try:
        with os.scandir(proc_path(fd)) as listing:
            for entry in listing:
                if entry.name in reserved:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    deeper.append(path + b"/" + entry.name if path else entry.name)
                    continue
                try:
                    status = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield status
    finally:
        os.close(fd)
