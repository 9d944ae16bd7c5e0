"""Compares contents piece by piece, by digests: of a file on another node nothing else has to cross."""

from __future__ import annotations

from abc import ABC, abstractmethod

import xxhash

from i2core.api.threads import check_cancelled
from i2core.api.tree import OpenFile

PIECE_BYTES = 4 << 20


class Digesting(ABC):
    """A file that gives the digests of its pieces, because it is far away."""

    __slots__ = ()

    @abstractmethod
    def digest(self, start: int) -> bytes:
        """`digest_at` of it.

        Raises:
            OSError: it cannot be read.
        """


def digest_at(file: OpenFile, start: int) -> bytes:
    """The digest of the piece that begins there.

    Raises:
        OSError: it cannot be read.
    """
    if isinstance(file, Digesting):
        return file.digest(start)
    return xxhash.xxh3_128_digest(file.read(start, PIECE_BYTES))


def have_same_content(one: OpenFile, other: OpenFile, size: int) -> bool:
    """True when two files of this size have the same bytes; for worker threads.

    Raises:
        OSError: one cannot be read.
        trio.Cancelled: nobody waits for the answer any more.
    """
    for start in range(0, size, PIECE_BYTES):
        check_cancelled()
        if digest_at(one, start) != digest_at(other, start):
            return False
    return True
