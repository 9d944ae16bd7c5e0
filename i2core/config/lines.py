"""Finds the line of each key of a TOML text. The standard parser does not give lines, and a mistake without its line is
hard to find. So the text, which that parser has accepted, is scanned once more for the positions alone."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

KeyPath = tuple[str | int, ...]
"""Keys and array indexes from the top: ``("rule", 0, "paths", 1, "source")``."""

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
# A multi-line string may end in up to two quotes of its own before the closing three.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")


class Lines:
    """Lines of all keys of one valid TOML text, counted from 1. Undefined for a text that `tomllib` refuses."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [i for i, char in enumerate(text) if char == "\n"]
        self._known: dict[KeyPath, int] = {(): 1}
        self._counts: dict[KeyPath, int] = {}
        self._document()

    def of(self, path: KeyPath) -> int:
        """The line where this key, or this item of an array, begins; for a missing key, the line of its table."""
        while path not in self._known:
            path = path[:-1]
        return self._known[path]

    def _line(self) -> int:
        return bisect_right(self._breaks, self._at - 1) + 1

    def _skip(self) -> str:
        """Skips blanks and comments, and returns the next character; empty at the end."""
        found = _BLANK.match(self._text, self._at)
        if found:
            self._at = found.end()
        return self._text[self._at : self._at + 1]

    def _note(self, path: KeyPath) -> None:
        # The first occurrence counts: a table's own header may follow the header of one of its subtables.
        self._known.setdefault(path, self._line())

    def _document(self) -> None:
        table: KeyPath = ()
        while char := self._skip():
            if char != "[":
                self._pair(table)
            elif self._text.startswith("[[", self._at):
                table = self._header(2, appends=True)
            else:
                table = self._header(1, appends=False)

    def _header(self, brackets: int, *, appends: bool) -> KeyPath:
        start = self._at
        self._at += brackets
        keys = self._keys("]")
        end = self._at + brackets
        self._at = start
        path: KeyPath = ()
        for i, key in enumerate(keys):
            path += (key,)
            self._note(path)
            last = i == len(keys) - 1
            if last and appends:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path += (self._counts[path] - 1,)
                self._note(path)
        self._at = end
        return path

    def _keys(self, end: str) -> list[str]:
        """The parts of a dotted key, up to the character `end`, which is not consumed."""
        parts: list[str] = []
        while (char := self._skip()) != end:
            if char == ".":
                self._at += 1
                continue
            found = (_STRING if char in "\"'" else _BARE_KEY).match(self._text, self._at)
            assert found is not None, "the text was proved valid before"
            parts.append(tomllib.loads(f"k = {found[0]}")["k"] if char in "\"'" else found[0])
            self._at = found.end()
        return parts

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        keys = self._keys("=")
        value = self._at + 1
        self._at = start
        path = table
        for key in keys:
            path += (key,)
            self._note(path)
        self._at = value
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        char = self._skip()
        if char == "[":
            self._at += 1
            count = 0
            while self._skip() != "]":
                self._note((*path, count))
                self._value((*path, count))
                count += 1
                self._comma()
            self._at += 1
        elif char == "{":
            self._at += 1
            while self._skip() != "}":
                self._pair(path)
                self._comma()
            self._at += 1
        else:
            found = (_STRING if char in "\"'" else _SCALAR).match(self._text, self._at)
            assert found is not None, "the text was proved valid before"
            self._at = found.end()

    def _comma(self) -> None:
        if self._skip() == ",":
            self._at += 1
