"""Trees of the past: as the oracle has recorded them, and as the product reads them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from i2core.api.content import extents
from i2core.api.records import Xattrs
from i2core.api.tree import OpenDirectory, Tree
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.oracle import first_difference, is_private, pictures

_PART = 7
"""Entries of a listing at a time."""


class Thing(NamedTuple):
    """One object of a tree."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int | None
    """None: an accident of the backup node, which no history promises."""
    xattrs: Xattrs
    content: bytes
    """Of a file, or the target of a symlink."""
    data: tuple[tuple[int, int], ...]
    """Where a file is not a hole."""
    rdev: int
    first: bytes
    """The first of its names: equal for all names of one object."""


Things = dict[bytes, Thing]
"""A tree by path; its root at ``b""``."""


class Recorder:
    """Records trees of simulated disks. Equal content is kept once."""

    def __init__(self) -> None:
        self._contents: dict[Inode, bytes] = {}

    def record(self, root: Inode) -> Things:
        """The present tree."""
        found: Things = {}
        contents: dict[Inode, bytes] = {}
        for path, picture in pictures(root).items():
            inode = picture.inode
            if is_private(path):
                continue
            before = self._contents.get(inode)
            content = contents[inode] = picture.content if picture.content != before else before
            size = inode.disk.page_bytes
            found[path] = Thing(
                inode.mode,
                inode.uid,
                inode.gid,
                None if inode.disk.gave(inode.mtime_ns) else inode.mtime_ns,
                tuple((name.encode(), value) for name, value in picture.xattrs),
                content,
                _ranges(sorted(inode.pages), size, len(inode.data)),
                inode.rdev,
                picture.names[0] if picture.names else path,
            )
        self._contents = contents
        return found


def _ranges(pages: list[int], size: int, end: int) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for page in pages:
        lo, hi = page * size, min((page + 1) * size, end)
        if lo >= end:
            break
        if found and found[-1][1] == lo:
            lo = found.pop()[0]
        found.append((lo, hi))
    return tuple(found)


def read(tree: Tree) -> Things:
    """All of a tree of the product.

    Raises:
        OSError: it cannot be read.
    """
    found: Things = {}
    first: dict[tuple[int, int], bytes] = {}
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        with tree.directory(path) as directory:
            here = directory.here()
            meta = here.mode, here.uid, here.gid, here.mtime_ns, directory.xattrs(b"") or ()
            found[path] = Thing(*meta, b"", (), 0, path)
            for name, thing, key in _entries(directory):
                below = path + b"/" + name if path else name
                if stat.S_ISDIR(thing.mode):
                    waiting.append(below)
                else:
                    first[key] = min(first.get(key, below), below)
                    found[below] = thing._replace(first=b"%d %d" % key)
    names = {b"%d %d" % key: name for key, name in first.items()}
    return {path: thing._replace(first=names.get(thing.first, path)) for path, thing in found.items()}


def _entries(directory: OpenDirectory) -> Iterator[tuple[bytes, Thing, tuple[int, int]]]:
    for part in directory.listing(_PART):
        for entry in part:
            content, data = entry.target, tuple[tuple[int, int], ...]()
            if stat.S_ISREG(entry.mode):
                with directory.open(entry.name) as file:
                    content = bytes(file.read(0, entry.size))
                    data = tuple((lo, hi) for lo, hi, is_data in extents(file, 0, entry.size) if is_data)
            xattrs = directory.xattrs(entry.name) or ()
            meta = entry.mode, entry.uid, entry.gid, entry.mtime_ns, xattrs
            yield entry.name, Thing(*meta, content, data, entry.rdev, b""), (entry.dev, entry.ino)


def differences(right: Things, found: Things) -> Iterator[str]:
    """How a tree differs from what it should be, one line for each object."""
    for path in sorted(right.keys() | found.keys()):
        shown = f"{path!r:.80}: "
        if path not in found:
            yield shown + "missing"
        elif path not in right:
            yield shown + "extra"
        else:
            one, other = right[path], found[path]
            if one.mtime_ns is None:
                other = other._replace(mtime_ns=None)
            if one.content != other.content:
                yield shown + f"content differs: {first_difference(one.content, other.content)}"
            elif one != other:
                values = zip(Thing._fields, one, other, strict=True)
                unlike = [f"{field} {was!r:.80} reads {now!r:.80}" for field, was, now in values if was != now]
                yield shown + ", ".join(unlike)
