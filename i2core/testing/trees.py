"""The oracle of all tests that replicate a tree: are two directories equal, byte by byte and attribute by attribute?

It reads with plain calls and shares no code with the product.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

_GRAIN = 64 * 1024
_SLACK_BYTES = 1 << 20
"""File systems allocate in units of their own: fewer bytes than this do not count as a filled hole."""
_GETFLAGS, _FSGETXATTR = 0x80086601, 0x801C581F  # linux/fs.h, where a long has 64 bits
_LETTERS = {
    "A": 0x80,
    "C": 0x800000,
    "D": 0x10000,
    "P": 0x20000000,
    "S": 0x8,
    "a": 0x20,
    "c": 0x4,
    "d": 0x40,
    "i": 0x10,
    "m": 0x400,
}
_TYPES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symlink",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def compare_trees(a: bytes | Path, b: bytes | Path, *, owners: bool = True, flags: bool = False) -> list[str]:
    """The differences of tree `b` (a replica) from tree `a`, one line each with the path; empty when there are none.

    Compared: type, content, mode, owner (unless `owners` is False), mtime in ns, extended attributes with ACLs, inode
    flags and project (if `flags`), symlink text, device number, which names are hard links of one file, and holes (what
    is sparse in `a` may not occupy more than 1 MiB extra in `b`). A sink's private directory counts as a difference in
    either tree. So does a tree that changes meanwhile.
    """
    return [f"{shown_path(path)}: {line}" for path, line in differing(a, b, owners=owners, flags=flags)]


def differing(a: bytes | Path, b: bytes | Path, *, owners: bool = True, flags: bool = False) -> list[tuple[bytes, str]]:
    """As `compare_trees`, each difference with its path beneath the trees."""
    try:
        return list(_compare(os.fsencode(a), os.fsencode(b), owners, flags))
    except FileNotFoundError as error:
        return [(os.fsencode(error.filename), "vanished while it was being compared")]


def shown_path(path: bytes) -> str:
    """A path beneath a tree, for people."""
    return repr(os.fsdecode(path) if path else "the top directory")


def _compare(a: bytes, b: bytes, owners: bool, flags: bool) -> Iterator[tuple[bytes, str]]:
    side_a, side_b = _Side(a), _Side(b)
    for path in sorted(side_a.objects.keys() | side_b.objects.keys()):
        if path.rpartition(b"/")[2].startswith(b".i2-staging-"):
            yield path, "left over"
        elif path not in side_b.objects:
            yield path, f"missing ({_kind(side_a.objects[path])})"
        elif path not in side_a.objects:
            yield path, f"extra ({_kind(side_b.objects[path])})"
        else:
            for line in _differences(side_a, side_b, path, owners):
                yield path, line
            if flags and (seen := [_flags(side, path) for side in (side_a, side_b)])[0] != seen[1]:
                yield path, f"flags {seen[0]} became {seen[1]}"


class _Side:
    """One tree: the status of each path, and the set of its hard links in the tree."""

    def __init__(self, top: bytes) -> None:
        self.top = top
        self.objects: dict[bytes, os.stat_result] = dict(_walk(top))
        groups: dict[tuple[int, int], set[bytes]] = {}
        for path, found in self.objects.items():
            if not stat.S_ISDIR(found.st_mode):
                groups.setdefault((found.st_dev, found.st_ino), set()).add(path)
        self.names = {path: names for names in groups.values() for path in names}

    def full(self, path: bytes) -> bytes:
        return self.top + b"/" + path if path else self.top


def _walk(top: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    # Directory by directory through descriptors: paths in a deep tree may be longer than PATH_MAX.
    yield b"", os.lstat(top)
    waiting = [b""]
    while waiting:
        above = waiting.pop()
        fd = _open(top, above, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for text in os.listdir(fd):
                name = os.fsencode(text)
                path = above + b"/" + name if above else name
                found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                yield path, found
                if stat.S_ISDIR(found.st_mode):
                    waiting.append(path)
        finally:
            os.close(fd)


def _open(top: bytes, path: bytes, flags: int) -> int:
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    parts = path.split(b"/") if path else [b"."]
    for number, part in enumerate(parts, 1):
        step = flags if number == len(parts) else os.O_PATH | os.O_DIRECTORY
        try:
            deeper = os.open(part, step | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _kind(found: os.stat_result) -> str:
    return _TYPES[stat.S_IFMT(found.st_mode)]


def _differences(a: _Side, b: _Side, path: bytes, owners: bool) -> Iterator[str]:
    one, two = a.objects[path], b.objects[path]
    if stat.S_IFMT(one.st_mode) != stat.S_IFMT(two.st_mode):
        yield f"{_kind(one)} became {_kind(two)}"
        return
    if stat.S_IMODE(one.st_mode) != stat.S_IMODE(two.st_mode):
        yield f"mode {stat.S_IMODE(one.st_mode):04o} became {stat.S_IMODE(two.st_mode):04o}"
    if owners and (one.st_uid, one.st_gid) != (two.st_uid, two.st_gid):
        yield f"owner {one.st_uid}:{one.st_gid} became {two.st_uid}:{two.st_gid}"
    if one.st_mtime_ns != two.st_mtime_ns:
        yield f"mtime {one.st_mtime_ns} became {two.st_mtime_ns} ns"
    if a.names.get(path) != b.names.get(path):
        yield f"hard links {sorted(a.names[path])} became {sorted(b.names[path])}"
    if stat.S_ISCHR(one.st_mode) or stat.S_ISBLK(one.st_mode):
        if one.st_rdev != two.st_rdev:
            yield f"device {one.st_rdev:#x} became {two.st_rdev:#x}"
    elif stat.S_ISLNK(one.st_mode):
        texts = [_link_text(side, path) for side in (a, b)]
        if texts[0] != texts[1]:
            yield f"symlink text {texts[0]!r} became {texts[1]!r}"
    elif stat.S_ISREG(one.st_mode):
        yield from _content(a, b, path)
    attributes = [_xattrs(side, path) for side in (a, b)]
    for name in sorted(attributes[0].keys() | attributes[1].keys()):
        values = [each.get(name) for each in attributes]
        if values[0] != values[1]:
            yield f"attribute {name!r} {values[0]!r} became {values[1]!r}"


def _flags(side: _Side, path: bytes) -> tuple[str, int]:
    """The flags that chattr(1) has set, as far as they can be replicated, and the project id."""
    kind = stat.S_IFMT(side.objects[path].st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        return "", 0
    fd = _open(side.top, path, os.O_RDONLY)
    try:
        raw, extended = bytearray(8), bytearray(28)
        for request, buffer in ((_GETFLAGS, raw), (_FSGETXATTR, extended)):
            with contextlib.suppress(OSError):
                fcntl.ioctl(fd, request, buffer)
        flags = int.from_bytes(raw[:4], sys.byteorder)
        letters = [letter for letter, flag in _LETTERS.items() if flags & flag]
        return "".join(letters), int.from_bytes(extended[12:16], sys.byteorder)
    finally:
        os.close(fd)


def _link_text(side: _Side, path: bytes) -> bytes:
    fd = _open(side.top, path, os.O_PATH)
    try:
        return os.readlink(b"", dir_fd=fd)
    finally:
        os.close(fd)


def _xattrs(side: _Side, path: bytes) -> dict[str, bytes]:
    fd = _open(side.top, path, os.O_PATH)
    try:
        here = f"/proc/self/fd/{fd}"
        return {name: os.getxattr(here, name) for name in os.listxattr(here)}
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    finally:
        os.close(fd)


def _content(a: _Side, b: _Side, path: bytes) -> Iterator[str]:
    one, two = a.objects[path], b.objects[path]
    fds = [_open(side.top, path, os.O_RDONLY) for side in (a, b)]
    try:
        if one.st_size != two.st_size:
            yield f"size {one.st_size} became {two.st_size}"
        elif (at := _first_difference(*fds)) is not None:
            digests = [_digest(fd) for fd in fds]
            yield f"content differs from the block at {at} on (sha256 {digests[0]} became {digests[1]})"
        else:
            data = [_data_bytes(fd) for fd in fds]
            if data[0] < one.st_size and data[1] > data[0] + _SLACK_BYTES:
                yield f"holes were filled: {data[0]} bytes of data became {data[1]}"
    finally:
        for fd in fds:
            os.close(fd)


def _first_difference(fd_a: int, fd_b: int) -> int | None:
    at = 0
    while True:
        pieces = [os.pread(fd, _GRAIN * 16, at) for fd in (fd_a, fd_b)]
        if pieces[0] != pieces[1]:
            return at
        if not pieces[0]:
            return None
        at += len(pieces[0])


def _digest(fd: int) -> str:
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _data_bytes(fd: int) -> int:
    """Bytes that are not in a hole, in whole allocation units."""
    total, at, size = 0, 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        stop = os.lseek(fd, start, os.SEEK_HOLE)
        first, last = start // _GRAIN * _GRAIN, -(-stop // _GRAIN) * _GRAIN
        total += min(last, size) - max(first, at)
        at = last
    return total
