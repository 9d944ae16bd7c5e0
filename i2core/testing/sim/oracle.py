"""The oracle: compares two trees of simulated disks, and finds durable objects that a power cut has lost.

It reads inodes directly, without the kernel, and shares no code with the product.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from i2core.api import Kind, Record
from i2core.testing.sim.inode import Inode

_STAGING = b".i2-staging-"
"""Prefix of the names that a sink uses for itself."""
STORE = b".i2-history-"
"""Prefix of the names under which a history has what is gone from the replica: no part of it."""
_SLACK_PAGES = 32
"""A file of the replica may have so many more pages than that of the source, since blocks are larger than pages."""


class Picture(NamedTuple):
    """The state of an object that must be equal on both sides."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: tuple[tuple[str, bytes], ...]
    content: bytes
    rdev: int
    names: tuple[bytes, ...]
    """All its names beneath the root."""
    pages: int
    inode: Inode


def pictures(root: Inode) -> dict[bytes, Picture]:
    """Every object beneath a root by its path, the root itself at ``b""``."""
    groups: dict[Inode, list[bytes]] = {}
    found: dict[bytes, Inode] = {}
    for path, inode in _walk(root):
        found[path] = inode
        if not inode.is_dir:
            groups.setdefault(inode, []).append(path)
    return {
        path: Picture(
            inode.mode,
            inode.uid,
            inode.gid,
            inode.mtime_ns,
            tuple(sorted(inode.xattrs.items())),
            bytes(inode.data) or inode.target,
            inode.rdev,
            tuple(sorted(groups.get(inode, ()))),
            len(inode.pages),
            inode,
        )
        for path, inode in found.items()
    }


def _walk(root: Inode) -> Iterator[tuple[bytes, Inode]]:
    waiting = [(b"", root)]
    while waiting:
        path, inode = waiting.pop()
        yield path, inode
        waiting += [
            (path + b"/" + name if path else name, child)
            for name, child in inode.entries.items()
            if not name.startswith(STORE)
        ]


def differences(source: Inode, replica: Inode, *, extra_allowed: bool) -> list[str]:
    """How a replica differs from its source, one line for each difference. `extra_allowed`: orphans are kept, and are
    not compared."""
    return [f"{path!r:.80}: {line}" for path, _, line in _differing(source, replica, extra_allowed)]


def only_linked_differ(source: Inode, replica: Inode, *, extra_allowed: bool) -> bool:
    """True when they differ only in the content of files that had several names. A capture that reports names cannot
    report a change under a name that is gone by the time it is checked: a scan finds that change."""
    found = list(_differing(source, replica, extra_allowed))
    return all(inode is not None and inode.linked and not line.startswith("names") for _, inode, line in found)


def _differing(source: Inode, replica: Inode, extra_allowed: bool) -> Iterator[tuple[bytes, Inode | None, str]]:
    """Path, the source's object, and what differs."""
    one, two = pictures(source), pictures(replica)
    for path in sorted(one.keys() | two.keys()):
        above, _, name = path.rpartition(b"/")
        inode = one[path].inode if path in one else None
        if name.startswith(_STAGING) and (above in one or not extra_allowed):
            yield path, inode, "left over"
        elif path not in two:
            yield path, inode, "missing"
        elif path in one:
            for line in unlike(one[path], two[path], links=not extra_allowed):
                yield path, inode, line
        elif not extra_allowed:
            yield path, inode, "extra"


def unlike(one: Picture, two: Picture, *, links: bool = True, times: bool = True) -> Iterator[str]:
    """How two objects differ."""
    if stat.S_IFMT(one.mode) != stat.S_IFMT(two.mode):
        yield f"type {one.mode:o} became {two.mode:o}"
        return
    for field in ("mode", "uid", "gid", "mtime_ns", "xattrs", "rdev", "names"):
        before, now = getattr(one, field), getattr(two, field)
        if before != now and (links or field != "names") and (times or field != "mtime_ns"):
            yield f"{field} {before!r} became {now!r}"
    if one.content != two.content:
        yield f"content differs: {first_difference(one.content, two.content)}"
    elif two.pages > one.pages + _SLACK_PAGES and two.pages > 2 * one.pages:
        yield f"holes were filled: {one.pages} pages became {two.pages}"


def first_difference(one: bytes, two: bytes) -> str:
    at = next((index for index, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return f"{len(one)} bytes became {len(two)}"
    return f"from byte {at} on ({len(one)} and {len(two)} bytes)"


_REPLACING = frozenset({Kind.CREATE, Kind.PUBLISH, Kind.SYMLINK, Kind.MKNOD, Kind.LINK, Kind.RENAME, Kind.REMOVE})
"""Records that may remove or move a directory with everything beneath it."""


class Touched:
    """The places and files of records: they may be in any state until the records are durable."""

    def __init__(self) -> None:
        self._deep: set[bytes] = set()
        self._places: set[bytes] = set()
        self._directories: set[bytes] = set()
        self._files: set[Inode] = set()

    def add(self, record: Record, files: Iterable[Inode]) -> None:
        """Adds a record, and the files that had the names in it."""
        self._files.update(files)
        for path in named(record):
            self._places.add(path)
            self._directories.add(path.rpartition(b"/")[0])
            if record.kind in _REPLACING:
                self._deep.add(path + b"/" if path else b"")

    def covers(self, path: bytes, picture: Picture) -> bool:
        """True when a record is about the object at `path`."""
        if path in self._places or picture.inode in self._files or b"" in self._deep:
            return True
        end = path.find(b"/")
        while end >= 0:
            if path[: end + 1] in self._deep:
                return True
            end = path.find(b"/", end + 1)
        return False

    def changes_times(self, path: bytes) -> bool:
        """True when a record is about something in the directory `path`."""
        return path in self._directories


def named(record: Record) -> tuple[bytes, ...]:
    """The paths in a record."""
    return (record.path, record.other) if record.kind in (Kind.RENAME, Kind.LINK) else (record.path,)


def is_private(path: bytes) -> bool:
    """True for a file of the sink itself: in the top directory, or briefly in a directory for which a file is staged,
    where the sink tests whether rename(2) works."""
    return any(part.startswith(_STAGING) for part in path.split(b"/"))


def lost(before: dict[bytes, Picture], after: dict[bytes, Picture], touched: Touched) -> list[str]:
    """Objects that a power cut has removed or damaged, although all records about them were durable."""
    lines = []
    for path, picture in before.items():
        if touched.covers(path, picture) or is_private(path):
            continue
        shown = repr(path)[:80]
        if path not in after:
            lines.append(f"{shown}: was durable, and is gone")
        else:
            # A sink creates and removes its private directory in the top directory, and then restores the times of
            # that.
            times = bool(path) and not touched.changes_times(path)
            now = after[path]
            lines += [f"{shown}: was durable; {line}" for line in unlike(picture, now, links=False, times=times)]
    return lines
