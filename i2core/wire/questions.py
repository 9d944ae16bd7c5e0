"""The questions of a mirror besides the listing: the names of one directory, the digests of one file, and the orphans
to remove.

    NAMES → NAMED…     `NamesQuery`, answered page by page
    HASHES → DIGESTS   `HashQuery`
    ORPHANS → DONE     `OrphanList`

docs/wire-format.md is the reference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from i2core.api import BLOCK_BYTES, ProtocolError
from i2core.api.records import Buffer, safe_path
from i2core.wire.message_size import MESSAGE_BYTES, parts
from i2core.wire.payload import COUNT, NAMES_LIMIT, PayloadReader, name_bytes, pack_names

ORPHANS_LIMIT = 40 << 20
"""Bytes that the orphans of one directory may take in memory, each with its whole path, while they are removed."""
_ORPHAN_BYTES = 600

_NAMES = struct.Struct("<HHB")
_HASHES = struct.Struct("<HHQIB")
_STAGED, _RUNS = 1, 2
_ORPHANS = struct.Struct("<HHI")


class NamesQuery(NamedTuple):
    """Asks for the names that the replica has in the directory `path`: the first page of them, or the next."""

    root: int
    path: bytes
    first: bool

    def encode(self) -> bytes:
        """The payload of a NAMES frame."""
        return _NAMES.pack(self.root, len(self.path), self.first) + self.path

    @staticmethod
    def decode(payload: Buffer) -> NamesQuery:
        """Decodes the query.

        Raises:
            ProtocolError: malformed.
        """
        reader = PayloadReader(payload)
        root, path_len, first = reader.unpack(_NAMES)
        path = reader.take(path_len)
        reader.finish()
        if not safe_path(path) or first > 1:
            raise ProtocolError("malformed query for names")
        return NamesQuery(root, path, bool(first))


def encode_names(names: Sequence[bytes]) -> bytes:
    """One page of names as the payload of a NAMED frame; the last page is followed by an empty one."""
    return COUNT.pack(len(names)) + pack_names(names)


def decode_names(payload: Buffer) -> list[bytes]:
    """Decodes the names.

    Raises:
        ProtocolError: malformed, or with names that no directory can hold.
    """
    reader = PayloadReader(payload)
    (count,) = reader.unpack(COUNT)
    if count > NAMES_LIMIT:
        raise ProtocolError(f"a page of {count} names exceeds the limit of {NAMES_LIMIT}")
    names = reader.names(count)
    reader.finish()
    return names


class HashQuery(NamedTuple):
    """Asks for the digests of `blocks` blocks from block `first` on of the file at `path`, or of its staging file. With
    `runs` holes are given by their length and do not count as blocks: the answer is a `BlockMap`."""

    root: int
    path: bytes
    first: int
    blocks: int
    staged: bool = False
    runs: bool = False

    def encode(self) -> bytes:
        """The payload of a HASHES frame."""
        flags = (_STAGED if self.staged else 0) | (_RUNS if self.runs else 0)
        return _HASHES.pack(self.root, len(self.path), self.first, self.blocks, flags) + self.path

    @staticmethod
    def decode(payload: Buffer) -> HashQuery:
        """Decodes the query.

        Raises:
            ProtocolError: malformed, or more blocks than a frame may hold.
        """
        reader = PayloadReader(payload)
        root, path_len, first, blocks, flags = reader.unpack(_HASHES)
        path = reader.take(path_len)
        reader.finish()
        if not safe_path(path) or blocks > 65536 or first > (1 << 62) // BLOCK_BYTES or flags > _STAGED | _RUNS:
            raise ProtocolError("malformed query for digests")
        return HashQuery(root, path, first, blocks, bool(flags & _STAGED), bool(flags & _RUNS))


def most_orphans(path: bytes) -> int:
    """Most orphans of the directory `path` in one list."""
    return ORPHANS_LIMIT // (len(path) + _ORPHAN_BYTES)


class OrphanList(NamedTuple):
    """Names in the directory `path` of the replica that the source does not have, as it has confirmed."""

    root: int
    path: bytes
    names: Sequence[bytes]

    def encode(self) -> bytes:
        """The payload of an ORPHANS frame."""
        return _ORPHANS.pack(self.root, len(self.path), len(self.names)) + self.path + pack_names(self.names)

    @staticmethod
    def decode(payload: Buffer) -> OrphanList:
        """Decodes the list.

        Raises:
            ProtocolError: malformed or with unsafe names.
        """
        reader = PayloadReader(payload)
        root, path_len, count = reader.unpack(_ORPHANS)
        path = reader.take(path_len)
        if count > most_orphans(path):
            raise ProtocolError(f"a list of {count} orphans exceeds the limit of {most_orphans(path)}")
        names = reader.names(count)
        reader.finish()
        if not safe_path(path):
            raise ProtocolError("unsafe path in a list of orphans")
        return OrphanList(root, path, names)

    def fitting(self) -> Iterator[OrphanList]:
        """The same names in lists that fit a frame, and that the backup node can handle at once."""
        most = most_orphans(self.path)
        for names in parts(self.names, name_bytes, most_size=MESSAGE_BYTES - len(self.path) - 64, most_items=most):
            yield OrphanList(self.root, self.path, names)
