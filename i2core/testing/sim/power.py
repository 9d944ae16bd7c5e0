"""The effect of a power cut: a prefix of the operations on names and attributes is left, and any part of unsynced
content."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from random import Random
from typing import Any

from i2core.testing.sim.inode import Inode


class Journal:
    """The operations on names and attributes since the last sync, with the values that they replaced."""

    def __init__(self) -> None:
        self._operations: list[list[tuple[Any, Any, Any]]] = []
        """For each operation: (inode, field, value), or (dict, key, value) with None for a missing entry."""

    def __len__(self) -> int:
        return len(self._operations)

    def begin(self) -> None:
        """The next operation begins."""
        self._operations.append([])

    def set(self, inode: Inode, field: str, value: object) -> None:
        """The operation sets an attribute."""
        self._operations[-1].append((inode, field, getattr(inode, field)))
        setattr(inode, field, value)

    def put(self, where: dict[Any, Any], key: object, value: object) -> None:
        """The operation sets an entry; None removes it."""
        self._operations[-1].append((where, key, where.get(key)))
        if value is None:
            where.pop(key, None)
        else:
            where[key] = value

    def sync(self) -> None:
        """All operations are on the disk."""
        self._operations.clear()

    def keep(self, inode: Inode, field: str) -> None:
        """This attribute stays as it is, whatever is undone."""
        for operation in self._operations:
            operation[:] = [each for each in operation if each[0] is not inode or each[1] != field]

    def cut(self, chance: Random) -> None:
        """Undoes all but a prefix."""
        kept = chance.randint(0, len(self._operations))
        for operation in reversed(self._operations[kept:]):
            for where, key, before in reversed(operation):
                if isinstance(where, Inode):
                    setattr(where, key, before)
                elif before is None:
                    where.pop(key, None)
                else:
                    where[key] = before
        self._operations.clear()


def tear(inode: Inode, page_bytes: int, chance: Random) -> None:
    """Decides what is left of content that was not synced."""
    assert inode.synced is not None
    old, size = inode.synced, page_bytes
    fate = chance.random()
    if fate < 0.25:
        return
    if fate < 0.5:
        inode.data, inode.pages = bytearray(old.data), set(old.pages)
        if chance.random() < 0.5:
            inode.mtime_ns = old.mtime_ns
        return
    length = chance.choice((len(old.data), len(inode.data)))
    mixed, pages = bytearray(length), set[int]()
    for page in range(-(-length // size)):
        start, stop = page * size, min((page + 1) * size, length)
        take = chance.random()
        before, now = (old.data, old.pages), (inode.data, inode.pages)
        sides: list[tuple[bytes | bytearray, AbstractSet[int]]] = [before] if take < 0.45 else [now]
        if take > 0.9:
            sides = [now, before]  # torn: the second half is the old one
        part = start
        for index, (data, held) in enumerate(sides):
            until = stop if index == len(sides) - 1 else (start + stop) // 2
            piece = data[part:until]
            mixed[part : part + len(piece)] = piece
            part = until
            if page in held:
                pages.add(page)
    inode.data, inode.pages = mixed, pages
