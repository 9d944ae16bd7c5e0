"""The directories of a source, one after the other in a fixed order, from any of them on."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from i2core.api import Place
from i2core.posix.errnos import GONE
from i2core.rule.source.source import Source

_MOST = 1000


def directories(source: Source, after: Place | None = None) -> Iterator[tuple[Place, int]]:
    """The directories of all roots, each before what is in it, names in the order of their bytes; and how many bytes of
    content each has in its own files. `after`: only those that come after this one, which may be gone by now. A
    directory that cannot be read is left out. Blocks.

    Raises:
        RootGone: a root is gone.
    """
    for root in range(len(source.trees)):
        if after is None or after.root < root:
            yield from _beneath(source, Place(root, b""), None)
        elif after.root == root:
            yield from _beneath(source, Place(root, b""), after.path.split(b"/") if after.path else [])


def _beneath(source: Source, top: Place, after: list[bytes] | None) -> Iterator[tuple[Place, int]]:
    """`after`: the names that lead from `top` to the last directory that is done; None: nothing is."""
    stack: list[tuple[Place, list[bytes] | None]] = [(top, after)]
    while stack:
        place, done = stack.pop()
        found = _read(source, place)
        if found is None:
            continue
        size, names = found
        if done is None:
            yield place, size
            stack += [(place.child(name), None) for name in reversed(names)]
            continue
        first, rest = (done[0], done[1:]) if done else (b"", [])
        later = [name for name in reversed(names) if name > first]
        stack += [(place.child(name), None) for name in later]
        if first and first in names:
            stack.append((place.child(first), rest))


def _read(source: Source, place: Place) -> tuple[int, list[bytes]] | None:
    size, names = 0, []
    try:
        with source.trees[place.root].directory(place.path) as directory:
            for entries in directory.listing(_MOST, lambda error: None):
                for entry in entries:
                    if stat.S_ISREG(entry.mode):
                        size += entry.size
                    elif stat.S_ISDIR(entry.mode) and source.wants(place.child(entry.name), True):
                        names.append(entry.name)
    except OSError as error:
        if error.errno not in GONE:
            return (0, sorted(names)) if names else None
        return None
    return size, sorted(names)
