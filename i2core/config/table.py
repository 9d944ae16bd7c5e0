"""Reads a TOML table key by key. A wrong value is reported with its line and replaced by a default, so that one run
finds every mistake. A table records the keys that were read; all others are reported as unknown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from i2core.config.lines import KeyPath, Lines
from i2core.config.mistakes import Mistake
from i2core.config.values import Read, T, Wrong, did_you_mean, wrong_type
from i2core.config.words import Words, both


def dotted(path: KeyPath) -> str:
    """The key as the docs write it: without indexes, because the line already identifies the item."""
    return ".".join(part for part in path if isinstance(part, str))


class Report:
    """Collects the mistakes of one file."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.file = file
        self._lines = lines
        self._mistakes: list[Mistake] = []
        self._tables: list[Table] = []

    def add(self, path: KeyPath, message: Words, allowed: Words | None = None) -> None:
        """Adds a mistake at the key; a missing key gets the line of its table."""
        self._mistakes.append(Mistake(self.file, self._lines.of(path), dotted(path), message, allowed))

    @contextlib.contextmanager
    def at(self, path: KeyPath) -> Iterator[None]:
        """Adds a `Wrong` that the block raises as a mistake at this key, and continues after the block."""
        try:
            yield
        except Wrong as wrong:
            self.add(path, wrong.message, wrong.allowed)

    def opened(self, table: Table) -> None:
        """Registers a table, so that `mistakes` finds its unknown keys."""
        self._tables.append(table)

    def known_keys(self) -> set[str]:
        """Every key that was read, dotted; a test compares the docs with it."""
        return {dotted((*table.path, key)) for table in self._tables for key in table.known}

    def mistakes(self) -> list[Mistake]:
        """All mistakes in the order of their lines, including unknown keys of all opened tables."""
        unknown = [m for table in self._tables for m in self._unknown(table)]
        return sorted([*self._mistakes, *unknown], key=lambda m: m.line)

    def _unknown(self, table: Table) -> Iterator[Mistake]:
        for key in table.data:
            if key not in table.known:
                path = (*table.path, key)
                near = did_you_mean(key, table.known)
                message = Words(f"unknown key{near.en}", f"未知的键{near.zh}")
                yield Mistake(
                    self.file, self._lines.of(path), dotted(path), message, both(", ".join(sorted(table.known)))
                )


class Table:
    """One table of the file; a missing one reads as empty."""

    def __init__(self, data: Mapping[str, object], path: KeyPath, report: Report) -> None:
        self.data = data
        self.path = path
        self.known: set[str] = set()
        self.report = report
        report.opened(self)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def wrong(self, key: str, message: Words, allowed: Words | None = None) -> None:
        """Adds a mistake at `key`, or at the table itself for an empty `key`."""
        self.report.add((*self.path, key) if key else self.path, message, allowed)

    def take(self, key: str, read: Read[T], default: T) -> T:
        """The value, or `default` when the key is missing or its value is wrong."""
        self.known.add(key)
        if key in self.data:
            with self.report.at((*self.path, key)):
                return read(self.data[key])
        return default

    def need(self, key: str, read: Read[T], stand_in: T) -> T:
        """The value of a required key; `stand_in` after a mistake, so that reading can continue."""
        if key not in self.data:
            self.known.add(key)
            self.wrong(key, Words("is missing", "缺少该键"))
            return stand_in
        return self.take(key, read, stand_in)

    def items(self, key: str, read: Read[T]) -> list[tuple[KeyPath, T]]:
        """The valid items of an array, each with its key path; none when the key is missing."""
        found: list[tuple[KeyPath, T]] = []
        for i, item in enumerate(self.take(key, _array, _NOTHING)):
            place = (*self.path, key, i)
            with self.report.at(place):
                found.append((place, read(item)))
        return found

    def table(self, key: str) -> Table:
        """The table at `key`; an empty one when it is missing or wrong."""
        return Table(self.take(key, _table, {}), (*self.path, key), self.report)

    def tables(self, key: str, example: str) -> list[Table]:
        """The tables of an array; `example` shows how one is written. An item that is not a table is reported and
        skipped; `Table.path` of the others keeps their true index."""
        allowed = both(example)
        self.known.add(key)
        value = self.data.get(key, [])
        if not isinstance(value, list):
            wrong = wrong_type(value, allowed)
            self.wrong(key, wrong.message, wrong.allowed)
            return []
        found = []
        for i, item in enumerate(value):
            place = (*self.path, key, i)
            table: Mapping[str, object] | None = None
            with self.report.at(place):
                table = _table(item)
            if table is not None:
                found.append(Table(table, place, self.report))
        return found


_NOTHING: list[object] = []


def _table(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise wrong_type(value, Words("a table", "表"))
    return value


def _array(value: object) -> list[object]:
    if not isinstance(value, list):
        raise wrong_type(value, Words("an array: [ … ]", "数组：[ … ]"))
    return value
