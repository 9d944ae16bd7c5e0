"""A directory that is being read: a stream of names, at any length, with offsets that stay valid.

The kernel asks in pieces, and asks again from an offset that it got with a name: as a rule from the last one, or from
one within the last piece when its reader had less room. Only what that needs is remembered.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

from i2core.api.records import Entry
from i2core.api.tree import OpenDirectory

_MOST = 128
"""Names that are looked at together."""
Item = tuple[bytes, Entry | None, OSError | None]
"""A name; its entry, None when it is gone or could not be read; what failed."""


class Listing:
    """Names of one open directory, by their offsets from 0 on. Hold `lock` meanwhile."""

    def __init__(self, directory: OpenDirectory) -> None:
        self.directory = directory
        self.lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._parts = self.directory.names(_MOST)
        self._first = 0
        self._kept: list[Item] = []
        """From the offset `_first` on."""

    def since(self, offset: int) -> Iterator[Item]:
        """Names from an offset on. The caller ends the reading when he has enough; what comes next is remembered.

        Raises:
            OSError: the directory cannot be read.
        """
        if offset < self._first:
            self._begin()  # a reader that went back further: it is read anew
        while offset > self._first + len(self._kept):
            self._first += len(self._kept)
            self._kept = []
            if not self._more():
                return
        self._kept = self._kept[offset - self._first :]
        self._first = offset
        for at in count():
            while at >= len(self._kept):
                if not self._more():
                    return
            yield self._kept[at]

    def close(self) -> None:
        """Ends the reading; the directory stays open."""
        self._parts = iter(())

    def _more(self) -> bool:
        """Reads the next part; False: there is none."""
        try:
            names = next(self._parts, None)
        except OSError:
            self._begin()  # whoever asks again gets the error again, or the rest, but never an early end
            raise
        if names is None:
            return False
        try:
            looked = self.directory.look(names)
        except OSError:
            self._kept += [self._one(name) for name in names]
        else:
            self._kept += [(name, entry, None) for name, entry in zip(names, looked, strict=True)]
        return True

    def _one(self, name: bytes) -> Item:
        """One that cannot be read takes no other with it."""
        try:
            return name, self.directory.entry(name), None
        except OSError as error:
            return name, None, error
