"""The replica that the check works on, and how it looks at it."""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from i2core.api.present import TOP, Facts, Handle, Present, Replica
from i2core.api.records import Kind, Meta, Record
from i2core.testing.picture import TIME_NS, meta_of

Open = Callable[[], AbstractContextManager[Replica]]
"""Opens the replica; several times after each other, and each time it is the same."""
Make = Callable[[Sequence[Record]], Awaitable[Open]]
"""Makes an empty replica with two roots, applies records to it as a sink does, and returns what opens it."""

BLOCK = 64 * 1024
"""No file system has larger blocks, so a hole of this size is one everywhere."""
TEXT = bytes(range(1, 251)) * 800
"""No byte of it is zero."""
SIZE = 8 * BLOCK
"""Length of a sparse file: data in the first and in the last block, between them a hole."""
XATTRS = ((b"user.first", b""), (b"user.second", b"\0\xff"))
FILE, DIR = meta_of(stat.S_IFREG | 0o640), meta_of(stat.S_IFDIR | 0o750)
LINK, FIFO = meta_of(stat.S_IFLNK | 0o777), meta_of(stat.S_IFIFO | 0o600)
LONG, STRANGE = b"n" * 255, b"\xff\n -"

RECORDS: Sequence[Record] = (
    Record(Kind.MKDIR, 0, b"dir", meta=DIR),
    Record(Kind.MKDIR, 0, b"dir/sub", meta=DIR),
    Record(Kind.MKDIR, 0, b"dir/sub/empty", meta=DIR),
    Record(Kind.CREATE, 0, b"dir/sub/deep", meta=FILE, data=b"deep"),
    Record(Kind.CREATE, 0, b"file", meta=FILE._replace(xattrs=XATTRS), data=TEXT),
    Record(Kind.LINK, 0, b"dir/second", other=b"file"),
    Record(Kind.CREATE, 0, b"empty", meta=FILE),
    Record(Kind.CREATE, 0, STRANGE, meta=FILE, data=b"a name of any bytes"),
    Record(Kind.CREATE, 0, LONG, meta=FILE, data=b"a long name"),
    Record(Kind.SYMLINK, 0, b"link", other=b"dir", meta=LINK),
    Record(Kind.MKNOD, 0, b"fifo", meta=FIFO),
    Record(Kind.STAGE, 0, b"sparse"),
    Record(Kind.WRITE, 0, b"sparse", data=TEXT[:BLOCK], staged=True),
    Record(Kind.WRITE, 0, b"sparse", offset=SIZE - BLOCK, data=TEXT[:BLOCK], staged=True),
    Record(Kind.PUBLISH, 0, b"sparse", size=SIZE, meta=FILE),
    Record(Kind.CREATE, 1, b"other", meta=FILE, data=b"other"),
    Record(Kind.STAGE, 0, b"dir/staged"),
    Record(Kind.WRITE, 0, b"dir/staged", data=b"staged", staged=True),
    Record(Kind.STAGE, 1, b"new"),
)
SPARSE = TEXT[:BLOCK] + bytes(SIZE - 2 * BLOCK) + TEXT[:BLOCK]
CONTENT = {
    (b"0", b"file"): TEXT,
    (b"0", b"dir", b"second"): TEXT,
    (b"0", b"dir", b"sub", b"deep"): b"deep",
    (b"0", b"empty"): b"",
    (b"0", STRANGE): b"a name of any bytes",
    (b"0", LONG): b"a long name",
    (b"0", b"sparse"): SPARSE,
    (b"1", b"other"): b"other",
}
"""All regular files, by the names that lead to them from the roots on."""
OBJECTS: dict[tuple[bytes, ...], Meta] = {
    **dict.fromkeys(CONTENT, FILE),
    (b"0", b"file"): FILE._replace(xattrs=XATTRS),
    (b"0", b"dir", b"second"): FILE._replace(xattrs=XATTRS),
    (b"0", b"dir"): DIR,
    (b"0", b"dir", b"sub"): DIR,
    (b"0", b"dir", b"sub", b"empty"): DIR,
    (b"0", b"link"): LINK,
    (b"0", b"fifo"): FIFO,
}
"""All objects beneath the roots."""
STAGED = {b"0/dir/staged": b"staged", b"1/new": b""}
"""All staging files."""


@contextmanager
def at(present: Present, *way: bytes, top: int = TOP) -> Iterator[Handle]:
    """The object to which these names lead from a fixed directory on. Fails where nothing is."""
    handle, opened = present.directory(top), list[Handle]()
    try:
        for name in way:
            child = present.child(handle, name)
            assert child is not None, f"{name!r} is missing in {way} of directory {top}"
            handle = child
            opened.append(child)
        yield handle
    finally:
        for each in opened:
            present.release(each)


def has(present: Present, *way: bytes, top: int = TOP) -> bool:
    """True when the last name leads to something; those before it do."""
    with at(present, *way[:-1], top=top) as directory:
        child = present.child(directory, way[-1])
        if child is not None:
            present.release(child)
        return child is not None


def names(present: Present, *way: bytes, top: int = TOP) -> list[bytes]:
    """All names in a directory, sorted."""
    with at(present, *way, top=top) as directory:
        return sorted(present.names(directory))


def facts(present: Present, *way: bytes, top: int = TOP) -> Facts:
    """What an object is like."""
    with at(present, *way, top=top) as handle:
        return present.facts(handle)


def content(present: Present, *way: bytes, top: int = TOP) -> bytes:
    """All of a file."""
    with at(present, *way, top=top) as handle:
        return present.read(handle, 0, 1 << 40)


def is_hole(present: Present, handle: Handle, lo: int, hi: int) -> bool:
    """True when all of the range is a hole."""
    return all(extent.hole for extent in present.extents(handle, lo, hi))


def in_directory(*way: bytes) -> list[bytes]:
    """The names that the sample has in this directory, sorted."""
    return sorted(path[-1] for path in OBJECTS if path[:-1] == way)


LATER_NS = TIME_NS + 1_000_000_007
