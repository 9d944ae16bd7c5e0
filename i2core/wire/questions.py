"""The questions of a mirror and of a compare besides the listing: the names of one directory, the digests of one file,
what an object there is like, and the orphans to remove.

    NAMES → NAMED…     `NamesQuery`, answered page by page
    HASHES → DIGESTS   `HashQuery`
    EXAMINE → EXAMINED `ExamineQuery`, answered with `Examined` for each name
    ORPHANS → DONE     `OrphanList`

docs/wire-format.md is the reference.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from i2core.api import BLOCK_BYTES, ProtocolError
from i2core.api.records import EARLIEST_NS, LATEST_NS, Buffer, safe_path
from i2core.wire.encoding import join_time, split_time
from i2core.wire.message_size import MESSAGE_BYTES, parts
from i2core.wire.payload import COUNT, NAMES_LIMIT, PayloadReader, name_bytes, pack_names

ORPHANS_LIMIT = 40 << 20
"""Bytes that the orphans of one directory may take in memory, each with its whole path, while they are removed."""
_ORPHAN_BYTES = 600

_NAMES = struct.Struct("<HHB")
_HASHES = struct.Struct("<HHQIB")
_STAGED, _RUNS = 1, 2
_ORPHANS = struct.Struct("<HHI")
_EXAMINE = struct.Struct("<HHI")
_EXAMINED = struct.Struct("<BIIIQqiIQq")
EXAMINED_MOST = 1000
"""Most names in one `ExamineQuery`."""


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


class Examined(NamedTuple):
    """What the replica has under a name. `born_ns`: when the object was made there, in ns since 1970; 0: not known."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    nlink: int
    xattrs: int
    """Digest of the extended attributes."""
    born_ns: int = 0


class ExamineQuery(NamedTuple):
    """Asks what the replica has under these names of the directory `path`; without names, what that itself is."""

    root: int
    path: bytes
    names: Sequence[bytes]

    def encode(self) -> bytes:
        """The payload of an EXAMINE frame."""
        return _EXAMINE.pack(self.root, len(self.path), len(self.names)) + self.path + pack_names(self.names)

    @staticmethod
    def decode(payload: Buffer) -> ExamineQuery:
        """Decodes the query.

        Raises:
            ProtocolError: malformed, or about too many names.
        """
        reader = PayloadReader(payload)
        root, path_len, count = reader.unpack(_EXAMINE)
        path = reader.take(path_len)
        if count > EXAMINED_MOST:
            raise ProtocolError(f"a question about {count} names exceeds the limit of {EXAMINED_MOST}")
        names = reader.names(count)
        reader.finish()
        if not safe_path(path):
            raise ProtocolError("unsafe path in a question about names")
        return ExamineQuery(root, path, names)


def encode_examined(found: Sequence[Examined | None]) -> bytes:
    """The payload of an EXAMINED frame; None: there is nothing of that name."""
    packed = [COUNT.pack(len(found))]
    for each in found:
        if each is None:
            packed.append(bytes(_EXAMINED.size))
            continue
        mode, uid, gid, size, mtime_ns, nlink, xattrs, born_ns = each
        era = 0
        if not EARLIEST_NS <= mtime_ns <= LATEST_NS:
            era, mtime_ns = split_time(mtime_ns)
        packed.append(_EXAMINED.pack(1, mode, uid, gid, size, mtime_ns, era, nlink, xattrs, born_ns))
    return b"".join(packed)


def decode_examined(payload: Buffer, count: int) -> list[Examined | None]:
    """Decodes the answer to a question about `count` names.

    Raises:
        ProtocolError: malformed, or another number of answers.
    """
    reader = PayloadReader(payload)
    if reader.unpack(COUNT) != (count,):
        raise ProtocolError("an answer about other names than those asked for")
    found: list[Examined | None] = []
    for _ in range(count):
        there, mode, uid, gid, size, mtime_ns, era, nlink, xattrs, born_ns = reader.unpack(_EXAMINED)
        time_ns = join_time(era, mtime_ns) if era else mtime_ns
        found.append(Examined(mode, uid, gid, size, time_ns, nlink, xattrs, born_ns) if there else None)
    reader.finish()
    return found


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
