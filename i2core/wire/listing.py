"""Listings and verdicts: how a mirror asks the backup node what differs.

A SURVEY frame carries chunks of directories as the source sees them; the VERDICTS frame that answers it carries, for
each chunk in the same order, one verdict byte per entry. Block digests of small files that must be compared ride along
with the verdicts; larger files are compared by HASHES requests. docs/wire-format.md is the reference.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from typing import NamedTuple

from i2core.api import BLOCK_BYTES, Entry, ProtocolError
from i2core.api.records import Buffer, safe_name, safe_path
from i2core.pipeline.blocks import DIGEST_BYTES

INLINE_BLOCKS = 16
"""Files of up to this many blocks get their digests with the verdict."""
SURVEY_LIMIT = 10_000
"""Most chunks and entries together in one SURVEY: several times what fills one."""
ORPHANS_LIMIT = 32 << 20
"""Bytes that the names of one directory may take in memory, each with its whole path."""
_ORPHAN_BYTES = 200


class Verdict(enum.IntFlag):
    """What the backup node needs for an entry."""

    SAME = 0
    META = 1
    """Mode, owner, mtime or extended attributes differ."""
    WHOLE = 2
    """It is missing, of another kind, or cannot be the base of a difference."""
    BLOCKS = 4
    """A base is there: compare block digests, send what differs."""
    LINK = 8
    """It must become another name of the file that the listing says."""


class Listed(NamedTuple):
    """An entry of a listing. `link` is the path of the first listed name of the same file, if there is an earlier."""

    entry: Entry
    link: bytes | None = None


class Chunk(NamedTuple):
    """Part of one directory: all of it when `first` and `last`. `here` is the directory itself; `strict` compares
    content by block digests also where size and mtime are equal."""

    root: int
    path: bytes
    here: Entry
    first: bool
    last: bool
    strict: bool
    listed: Sequence[Listed]


class Judged(NamedTuple):
    """The answer to one chunk: the directory's own verdict, one per entry, inline digests by index, and (with the last
    chunk of a directory) the names that only the replica has."""

    here: Verdict
    verdicts: bytes
    digests: dict[int, bytes]
    orphans: list[bytes]


_COUNT = struct.Struct("<I")
_CHUNK = struct.Struct("<HBHI")
_ENTRY = struct.Struct("<IIIQqIQQBHH")
_FIRST, _LAST, _STRICT = 1, 2, 4
_LINKED = 1
_ANSWER = struct.Struct("<BIII")
_DIGESTS = struct.Struct("<IH")
_NAME = struct.Struct("<H")


def _pack_entry(entry: Entry, link: bytes | None) -> bytes:
    other = entry.target if link is None else link
    head = _ENTRY.pack(
        entry.mode,
        entry.uid,
        entry.gid,
        entry.size,
        entry.mtime_ns,
        min(entry.nlink, 0xFFFFFFFF),
        entry.rdev,
        entry.xattrs,
        0 if link is None else _LINKED,
        len(entry.name),
        len(other),
    )
    return head + entry.name + other


def encode_survey(chunks: Sequence[Chunk]) -> bytes:
    """The chunks as one payload."""
    parts = [_COUNT.pack(len(chunks))]
    for chunk in chunks:
        flags = (_FIRST if chunk.first else 0) | (_LAST if chunk.last else 0) | (_STRICT if chunk.strict else 0)
        parts.append(_CHUNK.pack(chunk.root, flags, len(chunk.path), len(chunk.listed)))
        parts.append(chunk.path)
        parts.append(_pack_entry(chunk.here, None))
        parts += [_pack_entry(entry, link) for entry, link in chunk.listed]
    return b"".join(parts)


class _Reader:
    """Walks a payload; whatever is cut short or malformed is a `ProtocolError`."""

    def __init__(self, payload: Buffer) -> None:
        self.raw = bytes(payload)
        self.at = 0

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        end = self.at + layout.size
        if end > len(self.raw):
            raise ProtocolError("listing cut short")
        values = layout.unpack_from(self.raw, self.at)
        self.at = end
        return values

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.raw):
            raise ProtocolError("listing cut short")
        part = self.raw[self.at : end]
        self.at = end
        return part

    def finish(self) -> None:
        if self.at != len(self.raw):
            raise ProtocolError("bytes left over behind a listing")


def _read_entry(reader: _Reader) -> Listed:
    mode, uid, gid, size, mtime_ns, nlink, rdev, xattrs, flags, name_len, other_len = reader.unpack(_ENTRY)
    name = reader.take(name_len)
    other = reader.take(other_len) if other_len else b""
    link = other if flags & _LINKED else None
    target = b"" if flags & _LINKED else other
    # All fields at once: there is one for each file, and tuple.__new__ takes a third of the time of the class.
    make = tuple.__new__
    entry = make(Entry, (name, mode, uid, gid, size, mtime_ns, nlink, 0, 0, rdev, 0, 0, target, xattrs))
    return make(Listed, (entry, link))


def decode_survey(payload: Buffer) -> list[Chunk]:
    """The chunks again.

    Raises:
        ProtocolError: malformed, or with names that no directory can hold.
    """
    reader = _Reader(payload)
    (count,) = reader.unpack(_COUNT)
    left = SURVEY_LIMIT - count
    chunks = []
    for _ in range(count):
        root, flags, path_len, entries = reader.unpack(_CHUNK)
        path = reader.take(path_len)
        if not safe_path(path):
            raise ProtocolError("unsafe path in a listing")
        here = _read_entry(reader).entry
        left -= entries
        if left < 0:
            raise ProtocolError(f"a listing exceeds the limit of {SURVEY_LIMIT} entries")
        listed = [_read_entry(reader) for _ in range(entries)]
        for entry, link in listed:
            if not safe_name(entry.name):
                raise ProtocolError("unsafe name in a listing")
            if link is not None and not safe_path(link):
                raise ProtocolError("unsafe link in a listing")
        chunks.append(Chunk(root, path, here, bool(flags & _FIRST), bool(flags & _LAST), bool(flags & _STRICT), listed))
    reader.finish()
    return chunks


def encode_verdicts(judged: Sequence[Judged]) -> bytes:
    """The answers as one payload."""
    parts = [_COUNT.pack(len(judged))]
    for here, verdicts, digests, orphans in judged:
        parts.append(_ANSWER.pack(here, len(verdicts), len(digests), len(orphans)))
        parts.append(verdicts)
        for index, found in digests.items():
            parts.append(_DIGESTS.pack(index, len(found) // DIGEST_BYTES) + found)
        for name in orphans:
            parts.append(_NAME.pack(len(name)) + name)
    return b"".join(parts)


def decode_verdicts(payload: Buffer) -> list[Judged]:
    """The answers again.

    Raises:
        ProtocolError: malformed.
    """
    reader = _Reader(payload)
    (count,) = reader.unpack(_COUNT)
    judged = []
    for _ in range(count):
        here, verdict_count, digest_count, orphan_count = reader.unpack(_ANSWER)
        verdicts = reader.take(verdict_count)
        digests = {}
        for _ in range(digest_count):
            index, blocks = reader.unpack(_DIGESTS)
            digests[index] = reader.take(blocks * DIGEST_BYTES)
        orphans = [reader.take(reader.unpack(_NAME)[0]) for _ in range(orphan_count)]
        judged.append(Judged(Verdict(here & 15), verdicts, digests, orphans))
    reader.finish()
    return judged


_HASHES = struct.Struct("<HHQIB")


class HashQuery(NamedTuple):
    """Asks for the digests of `blocks` blocks from block `first` on of the file at `path`, or of its staging file."""

    root: int
    path: bytes
    first: int
    blocks: int
    staged: bool = False

    def encode(self) -> bytes:
        """The payload of a HASHES frame."""
        return _HASHES.pack(self.root, len(self.path), self.first, self.blocks, self.staged) + self.path

    @staticmethod
    def decode(payload: Buffer) -> HashQuery:
        """The query again.

        Raises:
            ProtocolError: malformed, or more blocks than a frame may hold.
        """
        reader = _Reader(payload)
        root, path_len, first, blocks, staged = reader.unpack(_HASHES)
        path = reader.take(path_len)
        reader.finish()
        if not safe_path(path) or blocks > 65536 or first > (1 << 62) // BLOCK_BYTES or staged > 1:
            raise ProtocolError("malformed query for digests")
        return HashQuery(root, path, first, blocks, bool(staged))


_ORPHANS = struct.Struct("<HHI")


def most_orphans(path: bytes) -> int:
    """How many orphans of the directory `path` are told and dealt with at once."""
    return ORPHANS_LIMIT // (len(path) + _ORPHAN_BYTES)


class OrphanList(NamedTuple):
    """Names in the directory `path` of the replica that the source confirms not to have."""

    root: int
    path: bytes
    names: Sequence[bytes]

    def encode(self) -> bytes:
        """The payload of an ORPHANS frame."""
        names = b"".join(_NAME.pack(len(name)) + name for name in self.names)
        return _ORPHANS.pack(self.root, len(self.path), len(self.names)) + self.path + names

    @staticmethod
    def decode(payload: Buffer) -> OrphanList:
        """The list again.

        Raises:
            ProtocolError: malformed or with unsafe names.
        """
        reader = _Reader(payload)
        root, path_len, count = reader.unpack(_ORPHANS)
        path = reader.take(path_len)
        if count > most_orphans(path):
            raise ProtocolError(f"a list of {count} orphans exceeds the limit of {most_orphans(path)}")
        names = [reader.take(reader.unpack(_NAME)[0]) for _ in range(count)]
        reader.finish()
        if not safe_path(path) or not all(map(safe_name, names)):
            raise ProtocolError("unsafe name in a list of orphans")
        return OrphanList(root, path, names)
