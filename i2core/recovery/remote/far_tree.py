"""A destination on another node as a tree that can be read: for the plan of a recovery.

A directory comes with the first of its entries in one answer, so a directory of ordinary size costs one exchange. All
calls block and belong into worker threads, as those of any tree.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import trio

from i2core.api import Entry, ProtocolError, Xattrs
from i2core.api.changes import join
from i2core.api.inode_flags import UNREAD
from i2core.api.tree import OpenDirectory, OpenFile, Tree, Unread, raise_it
from i2core.posix.path_text import as_text
from i2core.recovery.pieces import Digesting
from i2core.recovery.remote.caller import Caller
from i2core.wire.recovery import Call, entry_of

LOOKED = 100
"""Names that one call asks about: each entry may have a symlink's text of 4 KiB."""
_DIGEST_BYTES = 16


class FarTree(Tree):
    """The destination of a recovery, on a work node."""

    only = None

    def __init__(self, path: bytes, caller: Caller, *, flags: bool) -> None:
        self.path = path
        self.flags = flags
        self._caller = caller

    def ask(self, call: Call) -> dict[str, Any]:
        """The answer to a call; for worker threads.

        Raises:
            LinkError, I2Error, OSError: as `Caller.call`.
        """
        return trio.from_thread.run(self._caller.call, call)

    def directory(self, path: bytes) -> OpenDirectory:
        return FarDirectory(self, path, self.ask(Call(what="directory", path=as_text(path))))

    def lookup(self, path: bytes) -> Entry | None:
        return entry_of(_field(self.ask(Call(what="lookup", path=as_text(path))), "entry"))

    def is_present(self) -> bool:
        return True

    def close(self) -> None:
        """The other node closes it."""


class FarDirectory(OpenDirectory):
    """A directory there."""

    __slots__ = ("_entries", "_here", "_is_whole", "_number", "_path", "_tree")

    def __init__(self, tree: FarTree, path: bytes, answer: dict[str, Any]) -> None:
        self._tree = tree
        self._path = path
        self._number = _whole_number(_field(answer, "number"))
        here = entry_of(_field(answer, "here"))
        if here is None:
            raise ProtocolError("a directory without attributes")
        self._here = here
        self._entries, self._is_whole = _page(answer)

    def here(self) -> Entry:
        return self._here

    def entry(self, name: bytes) -> Entry | None:
        return self.look((name,))[0]

    def look(self, names: Sequence[bytes]) -> list[Entry | None]:
        if self._is_whole:
            found = {entry.name: entry for entry in self._entries}
            return [found.get(name) for name in names]
        looked: list[Entry | None] = []
        for first in range(0, len(names), LOOKED):
            asked = [as_text(name) for name in names[first : first + LOOKED]]
            call = Call(what="look", number=self._number, names=asked)
            entries = _field(self._tree.ask(call), "entries")
            if not isinstance(entries, list) or len(entries) != len(asked):
                raise ProtocolError("not one entry for each name")
            looked += map(entry_of, entries)
        return looked

    def names(self, most: int) -> Iterator[list[bytes]]:
        for part in self.listing(most):
            yield [entry.name for entry in part]

    def listing(self, most: int, unread: Unread = raise_it) -> Iterator[list[Entry]]:
        """In parts as the other node gives them; once, if it is large."""
        yield self._entries
        is_whole = self._is_whole
        while not is_whole:
            part, is_whole = _page(self._tree.ask(Call(what="more", number=self._number)))
            yield part

    def xattrs(self, name: bytes) -> Xattrs | None:
        _not_needed()

    def open(self, name: bytes) -> OpenFile:
        entry = self.entry(name)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return FarFile(self._tree, join(self._path, name), entry)

    def kernel_flags(self) -> int:
        return 0

    def close(self) -> None:
        if not self._is_whole:
            self._tree.ask(Call(what="shut", number=self._number))


class FarFile(OpenFile, Digesting):
    """A file there, of which only digests come here."""

    __slots__ = ("_entry", "_path", "_tree")

    def __init__(self, tree: FarTree, path: bytes, entry: Entry) -> None:
        self._tree = tree
        self._path = path
        self._entry = entry

    def digest(self, start: int) -> bytes:
        found = _field(self._tree.ask(Call(what="digest", path=as_text(self._path), number=start)), "digest")
        try:
            digest = bytes.fromhex(found)
        except (ValueError, TypeError) as error:
            raise ProtocolError("malformed digest") from error
        return digest[:_DIGEST_BYTES]

    def entry(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._entry

    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._entry

    def read(self, start: int, length: int) -> memoryview:
        _not_needed()

    def next_data(self, at: int) -> int | None:
        _not_needed()

    def next_hole(self, at: int) -> int | None:
        _not_needed()

    def xattrs(self) -> Xattrs:
        _not_needed()

    def flags(self) -> int:
        return 0

    def kernel_flags(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open here."""


def _not_needed() -> NoReturn:
    raise NotImplementedError("a destination on another node gives names and digests")


def _page(answer: dict[str, Any]) -> tuple[list[Entry], bool]:
    """Entries, and whether they are the last ones."""
    entries, is_whole = _field(answer, "entries"), _field(answer, "whole")
    if not isinstance(entries, list) or type(is_whole) is not bool:
        raise ProtocolError("malformed listing")
    return [entry for entry in map(entry_of, entries) if entry is not None], is_whole


def _whole_number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ProtocolError("malformed number")
    return value


def _field(answer: dict[str, Any], key: str) -> Any:
    """
    Raises:
        ProtocolError: the answer has no such field.
    """
    if key not in answer:
        raise ProtocolError(f"an answer without {key}")
    return answer[key]
