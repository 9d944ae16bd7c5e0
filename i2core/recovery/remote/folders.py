"""What a plan on another node reads of a destination here: names, entries and digests, no contents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from i2core.api import Entry, ProtocolError
from i2core.api.records import safe_name, safe_path
from i2core.api.tree import OpenDirectory, Tree
from i2core.posix.path_text import as_path
from i2core.recovery.pieces import digest_at
from i2core.wire.recovery import Call, entry_fields

LISTED = 1000
"""Most entries of one answer."""
_LISTED_BYTES = 128 * 1024
"""Most bytes of names and symlinks in one answer, before they are JSON; one entry may be longer."""
_OPEN_MOST = 16
"""Directories that are open at a time."""
_Page = tuple[list[Entry], bool]
"""Entries, and whether they are the last ones."""


class Folders:
    """The open directories of one conversation. Its calls block."""

    def __init__(self) -> None:
        self.tree: Tree | None = None
        self._open: dict[int, tuple[OpenDirectory, Iterator[_Page]]] = {}
        self._next = 0

    def answer(self, call: Call) -> dict[str, Any]:
        """The answer to a call: ``directory``, ``more``, ``look``, ``lookup``, ``digest`` or ``shut``.

        Raises:
            OSError: it cannot be read.
            ProtocolError: it is not allowed, or not now.
        """
        if self.tree is None:
            raise ProtocolError("there is nothing to be read")
        if not safe_path(as_path(call.path)):
            raise ProtocolError("a path that leaves the destination")
        kinds: dict[str, Callable[[Tree, Call], dict[str, Any]]] = {
            "directory": self._directory,
            "more": self._more,
            "look": self._look,
            "lookup": self._lookup,
            "digest": self._digest,
            "shut": self._shut,
        }
        return kinds[call.what](self.tree, call)

    def close(self) -> None:
        """Closes all directories."""
        for number in list(self._open):
            self._close(number)

    def _directory(self, tree: Tree, call: Call) -> dict[str, Any]:
        if len(self._open) >= _OPEN_MOST:
            raise ProtocolError("too many open directories")
        directory = tree.directory(as_path(call.path))
        self._next += 1
        number = self._next
        self._open[number] = directory, _pages(directory)
        try:
            answer = {"here": entry_fields(directory.here()), "number": number, **self._page(number)}
        except BaseException:
            self._close(number)
            raise
        if answer["whole"]:
            self._close(number)
        return answer

    def _more(self, _tree: Tree, call: Call) -> dict[str, Any]:
        return self._page(call.number)

    def _page(self, number: int) -> dict[str, Any]:
        entries, is_last = next(self._opened(number)[1], ([], True))
        return {"entries": [entry_fields(entry) for entry in entries], "whole": is_last}

    def _look(self, _tree: Tree, call: Call) -> dict[str, Any]:
        names = [as_path(name) for name in call.names]
        if len(names) > LISTED or not all(map(safe_name, names)):
            raise ProtocolError("too many names, or no names")
        return {"entries": [entry_fields(entry) for entry in self._opened(call.number)[0].look(names)]}

    def _lookup(self, tree: Tree, call: Call) -> dict[str, Any]:
        return {"entry": entry_fields(tree.lookup(as_path(call.path)))}

    def _digest(self, tree: Tree, call: Call) -> dict[str, Any]:
        above, _, name = as_path(call.path).rpartition(b"/")
        with tree.directory(above) as directory, directory.open(name) as file:
            return {"digest": digest_at(file, call.number).hex()}

    def _shut(self, _tree: Tree, call: Call) -> dict[str, Any]:
        self._close(call.number)
        return {}

    def _opened(self, number: int) -> tuple[OpenDirectory, Iterator[_Page]]:
        if number not in self._open:
            raise ProtocolError("that directory is not open")
        return self._open[number]

    def _close(self, number: int) -> None:
        found = self._open.pop(number, None)
        if found is not None:
            found[0].close()


def _pages(directory: OpenDirectory) -> Iterator[_Page]:
    """The entries in parts that fit an answer, the last one marked."""
    page: list[Entry] = []
    size = 0
    for entry in (one for part in directory.listing(LISTED) for one in part):
        length = len(entry.name) + len(entry.target)
        if page and (len(page) >= LISTED or size + length > _LISTED_BYTES):
            yield page, False
            page, size = [], 0
        page.append(entry)
        size += length
    yield page, True
