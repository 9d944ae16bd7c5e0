"""History is switched on: files that have several names must be known before anything changes.

Any other object gets its number when something of it is about to be lost. But which names a file has cannot be asked of
a file system later: with one name removed, the others must keep the object, and not move it into the store.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence

from i2core.api.present import TOP, Handle, Identity, Present
from i2core.history.model.rows import CatalogChange, Home, Object

_Names = list[tuple[tuple[bytes, ...], bytes]]


def enrol(present: Present, roots: Sequence[int], next_oid: int) -> Iterator[list[CatalogChange]]:
    """Changes of the catalog, for one file with all its names at a time. Memory grows with the files that have several
    names, not with all files.

    Raises:
        OSError: the replica cannot be read.
    """
    found: dict[Identity, _Names] = {}
    top = present.directory(TOP)
    for root in roots:
        handle = present.child(top, b"%d" % root)
        if handle is not None:
            _walk(present, handle, (b"%d" % root,), found)
            present.release(handle)
    numbers = _Numbers(next_oid)
    for identity, names in found.items():
        changes: list[CatalogChange] = []
        oid = numbers.take()
        changes.append(Object(oid, 0, identity))
        for directory, name in names:
            changes.append(Home(numbers.directory(present, directory, changes), name, oid, 0))
        yield changes


def _walk(present: Present, root: Handle, path: tuple[bytes, ...], found: dict[Identity, _Names]) -> None:
    """Notes all names of files that have several; open at a time are the directories on the way to one file."""
    way: list[tuple[Handle, tuple[bytes, ...], Iterator[bytes]]] = [(root, path, iter(present.names(root)))]
    while way:
        directory, path, names = way[-1]
        name = next(names, None)
        if name is None:
            way.pop()
            if directory != root:
                present.release(directory)
            continue
        handle = present.child(directory, name)
        if handle is None:
            continue
        facts = present.facts(handle)
        if stat.S_ISDIR(facts.meta.mode):
            way.append((handle, (*path, name), iter(present.names(handle))))
            continue
        if facts.links > 1:
            found.setdefault(facts.identity, []).append((path, name))
        present.release(handle)


class _Numbers:
    """Gives numbers to objects, and to the directories above them."""

    def __init__(self, next_oid: int) -> None:
        self._next = next_oid
        self._directories: dict[tuple[bytes, ...], int] = {(): TOP}

    def take(self) -> int:
        self._next += 1
        return self._next - 1

    def directory(self, present: Present, path: tuple[bytes, ...], changes: list[CatalogChange]) -> int:
        """The number of the directory; one that has none yet gets it."""
        oid = self._directories.get(path)
        if oid is None:
            parent = self.directory(present, path[:-1], changes)
            oid = self._directories[path] = self.take()
            changes.append(Object(oid, 0, _identity(present, path)))
            changes.append(Home(parent, path[-1], oid, 0))
        return oid


def _identity(present: Present, path: tuple[bytes, ...]) -> Identity | None:
    handle, opened = present.directory(TOP), list[Handle]()
    for name in path:
        child = present.child(handle, name)
        if child is None:
            break
        handle = child
        opened.append(child)
    identity = present.facts(handle).identity if len(opened) == len(path) else None
    for each in opened:
        present.release(each)
    return identity
