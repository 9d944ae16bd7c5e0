"""What must be true: two trees of simulated disks are the same; what was told to be durable is there after a power cut.

It reads inodes, not by way of the kernel, and shares no code with what it judges.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from i2core.api import RESERVED_PREFIX, Kind, Record
from i2core.testing.sim.disk import Inode

_SLACK_PAGES = 32
"""So many pages more than the source's may a file of the replica have: blocks are larger than pages."""


class Picture(NamedTuple):
    """All of an object that counts."""

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
        waiting += [(path + b"/" + name if path else name, child) for name, child in inode.entries.items()]


def differences(source: Inode, replica: Inode, *, extra_allowed: bool) -> list[str]:
    """How a replica differs from its source, one line each. `extra_allowed`: orphans are kept, with all that is in
    them: nobody looks there."""
    return [f"{path!r:.80}: {line}" for path, _, line in _differing(source, replica, extra_allowed)]


def only_linked_differ(source: Inode, replica: Inode, *, extra_allowed: bool) -> bool:
    """True when they differ only in what is in files that once had several names. A capture that tells names does not
    tell what was changed by one that was gone before anyone looked: a scan finds it."""
    found = list(_differing(source, replica, extra_allowed))
    return all(inode is not None and inode.linked and not line.startswith("names") for _, inode, line in found)


def _differing(source: Inode, replica: Inode, extra_allowed: bool) -> Iterator[tuple[bytes, Inode | None, str]]:
    """Path, the source's object, and what differs."""
    one, two = pictures(source), pictures(replica)
    for path in sorted(one.keys() | two.keys()):
        above, _, name = path.rpartition(b"/")
        inode = one[path].inode if path in one else None
        if name.startswith(RESERVED_PREFIX) and (above in one or not extra_allowed):
            yield path, inode, "left over"
        elif path not in two:
            yield path, inode, "missing"
        elif path in one:
            for line in unlike(one[path], two[path], links=not extra_allowed):
                yield path, inode, line
        elif not extra_allowed:
            yield path, inode, "too much"


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
        yield f"content differs: {_first_difference(one.content, two.content)}"
    elif two.pages > one.pages + _SLACK_PAGES and two.pages > 2 * one.pages:
        yield f"holes were filled: {one.pages} pages became {two.pages}"


def _first_difference(one: bytes, two: bytes) -> str:
    at = next((index for index, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), None)
    if at is None:
        return f"{len(one)} bytes became {len(two)}"
    return f"from byte {at} on ({len(one)} and {len(two)} bytes)"


_REPLACING = frozenset({Kind.CREATE, Kind.PUBLISH, Kind.SYMLINK, Kind.MKNOD, Kind.LINK, Kind.RENAME, Kind.REMOVE})
"""Records that may take away a directory with all beneath it, or move one."""


class Touched:
    """What records speak of: the places and files that may be anything until the records are durable."""

    def __init__(self) -> None:
        self._deep: set[bytes] = set()
        self._places: set[bytes] = set()
        self._directories: set[bytes] = set()
        self._files: set[Inode] = set()

    def add(self, record: Record, files: Iterable[Inode]) -> None:
        """A record, and the files that had the names in it."""
        self._files.update(files)
        for path in named(record):
            self._places.add(path)
            self._directories.add(path.rpartition(b"/")[0])
            if record.kind in _REPLACING:
                self._deep.add(path + b"/" if path else b"")

    def covers(self, path: bytes, picture: Picture) -> bool:
        """True when the object at `path` is spoken of."""
        if path in self._places or picture.inode in self._files or b"" in self._deep:
            return True
        end = path.find(b"/")
        while end >= 0:
            if path[: end + 1] in self._deep:
                return True
            end = path.find(b"/", end + 1)
        return False

    def changes_times(self, path: bytes) -> bool:
        """True when something in the directory `path` is spoken of."""
        return path in self._directories


def named(record: Record) -> tuple[bytes, ...]:
    """The paths in a record."""
    return (record.path, record.other) if record.kind in (Kind.RENAME, Kind.LINK) else (record.path,)


def lost(before: dict[bytes, Picture], after: dict[bytes, Picture], touched: Touched) -> list[str]:
    """What a power cut took, or spoiled, that no record spoke of which was not durable yet."""
    lines = []
    for path, picture in before.items():
        if touched.covers(path, picture) or path.rpartition(b"/")[2].startswith(RESERVED_PREFIX):
            continue
        shown = repr(path)[:80]
        if path not in after:
            lines.append(f"{shown}: was durable, and is gone")
        else:
            times = not touched.changes_times(path)
            now = after[path]
            lines += [f"{shown}: was durable; {line}" for line in unlike(picture, now, links=False, times=times)]
    return lines
