"""What a tree shows, and what the kernel shows of a directory, in the same form: a mounted tree looks like the tree."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from i2core.api.content import extents
from i2core.api.records import Entry
from i2core.api.tree import Tree

Picture = dict[bytes, tuple[Any, ...]]


def of_tree(tree: Tree) -> Picture:
    """Metadata, attributes, content and holes of each path; which names are one object."""
    found: Picture = {}
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for path, entry in _entries(tree):
        above, _, name = path.rpartition(b"/")
        with tree.directory(above if path else b"") as directory:
            xattrs = directory.xattrs(name)
            content: tuple[Any, ...] = ()
            if stat.S_ISREG(entry.mode):
                with directory.open(name) as file:
                    data = bytes(file.read(0, entry.size)) if entry.size else b""
                    content = (data, [tuple(each) for each in extents(file, 0, entry.size)])
        size = entry.size if stat.S_ISREG(entry.mode) else 0
        found[path] = (
            (entry.mode, entry.uid, entry.gid, size, entry.mtime_ns, entry.rdev, entry.target, entry.nlink),
            xattrs,
            content,
        )
        if not stat.S_ISDIR(entry.mode):
            names[entry.dev, entry.ino].append(path)
    return _with_groups(found, names)


def _entries(tree: Tree) -> Iterator[tuple[bytes, Entry]]:
    todo = [b""]
    with tree.directory(b"") as directory:
        yield b"", directory.here()
    while todo:
        above = todo.pop()
        with tree.directory(above) as directory:
            for entry in directory.entries():
                path = above + b"/" + entry.name if above else entry.name
                yield path, entry
                if stat.S_ISDIR(entry.mode):
                    todo.append(path)


def of_directory(top: bytes) -> Picture:
    """The same, through the kernel."""
    found: Picture = {}
    names: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    todo = [b""]
    while todo:
        path = todo.pop()
        full = top + b"/" + path if path else top
        status = os.lstat(full)
        target = os.readlink(full) if stat.S_ISLNK(status.st_mode) else b""
        listed = sorted(os.fsencode(name) for name in os.listxattr(full, follow_symlinks=False))
        xattrs = tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in listed)
        content: tuple[Any, ...] = ()
        if stat.S_ISREG(status.st_mode):
            content = _content(full, status.st_size)
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        rest = (status.st_mtime_ns, status.st_rdev, target, status.st_nlink)
        found[path] = ((status.st_mode, status.st_uid, status.st_gid, size, *rest), xattrs, content)
        if stat.S_ISDIR(status.st_mode):
            todo += [path + b"/" + name if path else name for name in os.listdir(full)]
        else:
            names[status.st_dev, status.st_ino].append(path)
    return _with_groups(found, names)


def _content(path: bytes, size: int) -> tuple[Any, ...]:
    fd = os.open(path, os.O_RDONLY)
    try:
        data, holes, at = os.pread(fd, size, 0), [], 0
        while at < size:
            try:
                begin = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                begin = size
            if begin > at:
                holes.append((at, begin, False))
            if begin < size:
                at = os.lseek(fd, begin, os.SEEK_HOLE)
                holes.append((begin, at, True))
            else:
                at = size
        return data, holes
    finally:
        os.close(fd)


def _with_groups(found: Picture, names: dict[tuple[int, int], list[bytes]]) -> Picture:
    for group in names.values():
        for path in group:
            found[path] += (sorted(group),)
    return found
