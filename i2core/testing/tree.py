"""`check_tree`: the contract of every tree that can be read. The in-memory twin is `MemoryTree`.

The check reads a tree that it has described by records, and changes nothing. What a tree that changes owes (it follows
a rename, it never leaves the root while directories are exchanged) belongs into the tests of its driver.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple, Protocol

from i2core.api import Entry, Kind, Record, Xattrs, xattr_digest
from i2core.api.content import extents
from i2core.api.inode_flags import UNREAD
from i2core.api.tree import OpenFile, Tree
from i2core.posix.errnos import GONE
from i2core.testing.memory_tree import MemoryTree
from i2core.testing.picture import meta_of

__all__ = ["MemoryTree", "OpenTree", "check_tree"]


class OpenTree(Protocol):
    """Opens the tree under test."""

    def __call__(self, only: bytes | None = None, *, flags: bool = False) -> Tree: ...


Make = Callable[[Sequence[Record]], Awaitable[OpenTree]]
"""Applies records to an empty directory, and returns what opens it as a tree."""


class _Object(NamedTuple):
    """An object of the sample. `hole`: zeros after `data`."""

    path: bytes
    mode: int
    data: bytes = b""
    hole: int = 0
    target: bytes = b""
    xattrs: Xattrs = ()

    @property
    def content(self) -> bytes:
        return self.data + bytes(self.hole)


_FILE, _DIR, _LINK, _FIFO = stat.S_IFREG | 0o640, stat.S_IFDIR | 0o750, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600
_XATTRS = ((b"user.first", b""), (b"user.second", b"\0\xff"))
_SAMPLE = (
    _Object(b"file", _FILE, bytes(range(256)) * 800, xattrs=_XATTRS),
    _Object(b"empty", _FILE),
    _Object(b"sparse", _FILE, b"data", hole=300_000),
    _Object(b"link", _LINK, target=b"file"),
    _Object(b"trap", _LINK, target=b"dir"),
    _Object(b"fifo", _FIFO),
    _Object(b"\xff\n -", _FILE, b"a name of any bytes"),
    _Object(b"n" * 255, _FILE, b"a long name"),
    _Object(b"dir", _DIR, xattrs=_XATTRS[1:]),
    _Object(b"dir/sub", _DIR),
    _Object(b"dir/sub/file", _FILE, b"another"),
    *(_Object(b"dir/%d" % number, _FILE, b"%d" % number) for number in range(25)),
    _Object(b"deep", _DIR),
    *(_Object(b"/".join([b"deep", *[b"d" * 50] * depth]), _DIR) for depth in range(1, 10)),
)
_FIRST, _SECOND = b"file", b"dir/second"
"""Two names of one file."""


def _records() -> list[Record]:
    """The records that make the sample."""
    made: list[Record] = []
    for path, mode, data, hole, target, xattrs in _SAMPLE:
        meta = meta_of(mode, xattrs=xattrs)
        if mode == _DIR:
            made.append(Record(Kind.MKDIR, 0, path, meta=meta))
        elif mode == _LINK:
            made.append(Record(Kind.SYMLINK, 0, path, other=target, meta=meta))
        elif mode == _FIFO:
            made.append(Record(Kind.MKNOD, 0, path, meta=meta))
        elif hole:
            made.append(Record(Kind.STAGE, 0, path))
            made.append(Record(Kind.WRITE, 0, path, data=data, staged=True))
            made.append(Record(Kind.PUBLISH, 0, path, size=len(data) + hole, meta=meta))
        else:
            made.append(Record(Kind.CREATE, 0, path, meta=meta, data=data))
    made.append(Record(Kind.LINK, 0, _SECOND, other=_FIRST))
    return made


async def check_tree(make: Make) -> None:
    """Checks the contract of a tree.

    Raises:
        AssertionError: the tree breaks the contract; the message says where.
    """
    open_tree = await make(_records())
    for step in _STEPS:
        with closing(open_tree()) as tree:
            step(tree)
    _only_limits_the_root(open_tree)
    _flags_are_read_on_demand(open_tree)


# ------------------------------------------------------------------------------------------ names and entries


def _every_name_is_listed_once(tree: Tree) -> None:
    for above in _directories():
        expected = _names_in(above)
        for most in (1, 7, 1000):
            with tree.directory(above) as directory:
                parts = list(directory.listing(most))
                names = list(directory.names(most))
            longest = max([len(part) for part in parts] + [len(part) for part in names], default=0)
            assert longest <= most, f"{above!r}: a part of more than {most} entries"
            for listed in ([entry.name for part in parts for entry in part], [name for part in names for name in part]):
                assert sorted(listed) == expected, f"{above!r}: listed {sorted(listed)} instead of {expected}"


def _entries_say_what_is_there(tree: Tree) -> None:
    for each in _SAMPLE:
        above, _, name = each.path.rpartition(b"/")
        with tree.directory(above) as directory:
            entry = directory.entry(name)
            listed = {entry.name: entry for entry in directory.entries()}
            looked = directory.look([b"missing", name])
        assert entry is not None, f"{each.path!r} is missing"
        assert listed[name] == entry == tree.lookup(each.path), f"{each.path!r}: three ways to read it do not agree"
        assert looked == [None, entry], f"{each.path!r}: looked at beside a missing name, it is {looked}"
        _is_as_made(entry, each)


def _is_as_made(entry: Entry, made: _Object) -> None:
    meta = meta_of(made.mode)
    assert entry.mode == made.mode, f"{made.path!r}: mode {entry.mode:o} instead of {made.mode:o}"
    assert (entry.uid, entry.gid) == (meta.uid, meta.gid), f"{made.path!r}: another owner"
    assert entry.xattrs == xattr_digest(made.xattrs), f"{made.path!r}: another digest of the extended attributes"
    assert entry.target == made.target, f"{made.path!r}: another link text"
    assert entry.flags == UNREAD, f"{made.path!r}: inode flags were read that nobody asked for"
    if not stat.S_ISDIR(made.mode):  # a directory's time is that of the last object made in it
        assert entry.mtime_ns == meta.mtime_ns, f"{made.path!r}: time {entry.mtime_ns} instead of {meta.mtime_ns}"
    if stat.S_ISREG(made.mode):
        assert entry.size == len(made.content), f"{made.path!r}: {entry.size} bytes instead of {len(made.content)}"


def _a_directory_says_what_it_is(tree: Tree) -> None:
    for path in _directories():
        entry = tree.lookup(path)
        with tree.directory(path) as directory:
            here = directory.here()
        assert here.name == b"", f"{path!r}: the directory itself has the name {here.name!r}"
        assert entry is not None, f"{path!r} is missing"
        assert here._replace(name=entry.name) == entry, f"{path!r}: the directory itself differs from its entry"


def _an_object_has_one_identity(tree: Tree) -> None:
    seen: dict[tuple[int, int], bytes] = {}
    for each in _SAMPLE:
        entry = _found(tree, each.path)
        other = seen.setdefault((entry.dev, entry.ino), each.path)
        assert other == each.path, f"{each.path!r} and {other!r} pass for one object"
        if each.path == _FIRST:
            second = _found(tree, _SECOND)
            assert (second.dev, second.ino) == (entry.dev, entry.ino), "two names of a file pass for two files"
            assert second.nlink == entry.nlink == 2, "a file with two names does not have two"
        elif not stat.S_ISDIR(each.mode):
            assert entry.nlink == 1, f"{each.path!r} has {entry.nlink} names instead of one"


def _nothing_is_found_where_nothing_is(tree: Tree) -> None:
    for path in (b"missing", b"missing/name", b"file/name", b"link/name", b"trap/sub", b"dir/sub/missing"):
        assert tree.lookup(path) is None, f"{path!r} was found"
        _leads_nowhere(tree, path)
    with tree.directory(b"dir") as directory:
        assert directory.entry(b"missing") is None, "a missing name has an entry"
        assert directory.xattrs(b"missing") == (), "a missing name has extended attributes"


def _only_directories_are_entered(tree: Tree) -> None:
    for path in (b"file", b"fifo", b"link", b"trap", b"trap/sub"):
        _leads_nowhere(tree, path)


def _leads_nowhere(tree: Tree, path: bytes) -> None:
    try:
        tree.directory(path).close()
    except OSError as error:
        assert error.errno in GONE, f"directory {path!r}: {error}"
    else:
        raise AssertionError(f"{path!r} was opened as a directory")


# ------------------------------------------------------------------------------------------ content and attributes


def _only_regular_files_are_opened(tree: Tree) -> None:
    with tree.directory(b"") as directory:
        for name in (b"missing", b"dir", b"fifo", b"link", b"trap"):
            try:
                directory.open(name).close()
            except OSError:
                continue
            raise AssertionError(f"{name!r} was opened as a file")


def _content_is_read_in_ranges(tree: Tree) -> None:
    for path, file, content in _files(tree):
        size = len(content)
        for start, length in ((0, size), (0, size + 10), (1, 5), (size // 2, size), (size, 10), (size + 10, 10)):
            read = bytes(file.read(start, length)) if length else b""
            expected = content[start : start + length]
            assert read == expected, f"{path!r}: {length} bytes from {start} on are others"


def _what_is_no_data_is_zeros(tree: Tree) -> None:
    for path, file, content in _files(tree):
        size, at = len(content), 0
        for start, end, data in extents(file, 0, size):
            assert start == at, f"{path!r}: nothing is said of the range from {at} on"
            assert data or not content[start:end].strip(b"\0"), f"{path!r}: data between {start} and {end} is a hole"
            at = end
        assert at == size, f"{path!r}: nothing is said of the range from {at} on"
        for beyond in (size, size + 1):
            found = (file.next_data(beyond), file.next_hole(beyond))
            assert found == (None, None), f"{path!r}: there is something after its end"


def _an_open_file_says_what_it_is(tree: Tree) -> None:
    for path, file, _ in _files(tree):
        entry = _found(tree, path)
        assert file.entry(entry.xattrs) == entry, f"{path!r}: the open file differs from its entry"
        assert file.as_opened(entry.xattrs) == entry, f"{path!r}: the file as opened differs from its entry"
        for state in (file.entry(5, 7), file.as_opened(5, 7)):
            assert (state.xattrs, state.flags) == (5, 7), f"{path!r}: digest and flags are not those that were given"


def _attributes_are_read(tree: Tree) -> None:
    for each in _SAMPLE:
        above, _, name = each.path.rpartition(b"/")
        with tree.directory(above) as directory:
            assert directory.xattrs(name) == each.xattrs, f"{each.path!r}: other extended attributes"
            if stat.S_ISREG(each.mode):
                with directory.open(name) as file:
                    assert file.xattrs() == each.xattrs, f"{each.path!r}: other extended attributes of the open file"
        if stat.S_ISDIR(each.mode):
            with tree.directory(each.path) as directory:
                assert directory.xattrs(b"") == each.xattrs, f"{each.path!r}: other extended attributes of itself"


# ------------------------------------------------------------------------------------------ life


def _it_is_there(tree: Tree) -> None:
    assert tree.is_present(), "the root is there, and counts as gone"
    assert tree.only is None, "a tree that is not limited has a name in `only`"
    assert not tree.flags, "inode flags are read although nobody asked for them"


def _closing_again_is_no_error(tree: Tree) -> None:
    directory = tree.directory(b"")
    file = directory.open(b"file")
    for each in (file, file, directory, directory):
        each.close()
    tree.close()


def _after_a_rest_all_is_there(tree: Tree) -> None:
    tree.rest()
    _every_name_is_listed_once(tree)
    tree.rest()
    assert tree.is_present(), "the root counts as gone after a rest"


def _a_job_reads_the_same(tree: Tree) -> None:
    for _ in range(2):
        with tree.job():
            _every_name_is_listed_once(tree)
            _a_directory_says_what_it_is(tree)


def _only_limits_the_root(open_tree: OpenTree) -> None:
    with closing(open_tree(b"dir")) as tree:
        assert tree.only == b"dir", f"a root that is limited to 'dir' has `only` {tree.only!r}"
        listed = {above: _listed(tree, above) for above in (b"", b"dir")}
    assert listed[b""] == [b"dir"], f"a root that is limited to 'dir' lists {listed[b'']}"
    assert listed[b"dir"] == _names_in(b"dir"), "beneath a limited root, names are missing"


def _flags_are_read_on_demand(open_tree: OpenTree) -> None:
    with closing(open_tree(flags=True)) as tree:
        assert tree.flags, "inode flags are not read although somebody asked for them"
        with tree.directory(b"") as directory, directory.open(b"file") as file:
            entry = directory.entry(b"file")
            assert entry is not None and entry.flags == file.flags() != UNREAD, "the inode flags of a file are not read"
            assert directory.here().flags != UNREAD, "the inode flags of a directory are not read"


_STEPS: Sequence[Callable[[Tree], None]] = (
    _it_is_there,
    _every_name_is_listed_once,
    _entries_say_what_is_there,
    _a_directory_says_what_it_is,
    _an_object_has_one_identity,
    _nothing_is_found_where_nothing_is,
    _only_directories_are_entered,
    _only_regular_files_are_opened,
    _content_is_read_in_ranges,
    _what_is_no_data_is_zeros,
    _an_open_file_says_what_it_is,
    _attributes_are_read,
    _closing_again_is_no_error,
    _after_a_rest_all_is_there,
    _a_job_reads_the_same,
)


def _directories() -> list[bytes]:
    return [b"", *(each.path for each in _SAMPLE if stat.S_ISDIR(each.mode))]


def _names_in(above: bytes) -> list[bytes]:
    """All names in a directory of the sample."""
    split = [path.rpartition(b"/") for path in (*(each.path for each in _SAMPLE), _SECOND)]
    return sorted(name for parent, _, name in split if parent == above)


def _listed(tree: Tree, above: bytes) -> list[bytes]:
    """The names that the tree lists in a directory."""
    with tree.directory(above) as directory:
        return sorted(entry.name for entry in directory.entries())


def _found(tree: Tree, path: bytes) -> Entry:
    entry = tree.lookup(path)
    assert entry is not None, f"{path!r} is missing"
    return entry


def _files(tree: Tree) -> Iterator[tuple[bytes, OpenFile, bytes]]:
    """Each file of the sample: its path, the open file, its content."""
    for each in _SAMPLE:
        if stat.S_ISREG(each.mode):
            above, _, name = each.path.rpartition(b"/")
            with tree.directory(above) as directory, directory.open(name) as file:
                yield each.path, file, each.content
