"""Listings and verdicts: how a mirror asks the backup node what differs.

A SURVEY frame carries chunks of directories as the source sees them; the VERDICTS frame that answers it carries, for
each chunk in the same order, one verdict byte per entry. Block digests of small files that must be compared ride along
with the verdicts; larger files are compared by HASHES requests. docs/wire-format.md is the reference.
"""

from __future__ import annotations

import enum
import stat
import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from i2core.api import BLOCK_BYTES, Entry, ProtocolError
from i2core.api.records import Buffer, safe_name, safe_path
from i2core.pipeline.blocks import DIGEST_BYTES

INLINE_BLOCKS = 16
"""Files of up to this many blocks get their digests with the verdict."""
SURVEY_LIMIT = 10_000
"""Most chunks and entries together in one SURVEY: several times what fills one."""
ORPHANS_LIMIT = 40 << 20
"""Bytes that the orphans of one directory may take in memory, each with its whole path, while they are removed."""
_ORPHAN_BYTES = 600


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
    """Part of one directory as the work node sees it: all of it when `first` and `last`. `here` is the directory
    itself; `strict` compares content by block digests also where size and mtime are equal. `links` has, by index, the
    path of the first listed name of the same file, for those that have an earlier one."""

    root: int
    path: bytes
    here: Entry
    first: bool
    last: bool
    strict: bool
    entries: Sequence[Entry]
    links: Mapping[int, bytes] = MappingProxyType({})


class Shown(NamedTuple):
    """A chunk as the backup node gets it: only names are taken apart at once. What an entry is stays packed in `heads`,
    for where the replica's own entries pack into the same bytes there is nothing to look at."""

    root: int
    path: bytes
    here: Entry
    first: bool
    last: bool
    strict: bool
    names: Sequence[bytes]
    heads: bytes
    others: Mapping[int, bytes]
    """Texts of symlinks, and links as in `Chunk.links`, by index."""

    def listed(self, index: int) -> Listed:
        """One entry."""
        mode, uid, gid, size, mtime_ns, nlink, rdev, xattrs, flags = _HEAD.unpack_from(self.heads, index * _HEAD.size)
        other = self.others.get(index, b"")
        link = other if flags & _LINKED else None
        # All fields at once: there may be one for each file, and tuple.__new__ takes a third of the time of the class.
        make = tuple.__new__
        target = other if link is None else b""
        fields = (self.names[index], mode, uid, gid, size, mtime_ns, nlink, 0, 0, rdev, 0, 0, target, xattrs)
        return make(Listed, (make(Entry, fields), link))

    def size(self, index: int) -> int:
        """The size of one entry in bytes."""
        size: int = _SIZE.unpack_from(self.heads, index * _HEAD.size + _SIZE_AT)[0]
        return size

    def links(self) -> Iterator[bytes]:
        """The links of all entries that have one."""
        last = _HEAD.size - 1
        return (text for index, text in self.others.items() if self.heads[index * _HEAD.size + last] & _LINKED)

    def differing(self, there: Sequence[Entry | None], *, owners: bool) -> Sequence[int]:
        """The entries that must be looked at, given the replica's: what is not equal in every field, and what has
        several names."""
        heads, size = pack_heads(there, owners=owners), _HEAD.size
        shared = [index for index, entry in enumerate(there) if entry is not None and entry.nlink > 1]
        texts = [index for index, text in self.others.items() if _text(there[index]) != text]
        if heads == self.heads:
            return sorted({*shared, *texts}) if shared or texts else ()
        parts = range(0, len(heads), size)
        unlike = [at // size for at in parts if heads[at : at + size] != self.heads[at : at + size]]
        return sorted({*shared, *texts, *unlike})


class Judged(NamedTuple):
    """The answer to one chunk: the directory's own verdict, one per entry, inline digests by index, and (with the last
    chunk of a directory) the names that only the replica has."""

    here: Verdict
    verdicts: bytes
    digests: dict[int, bytes]
    orphans: list[bytes]


_COUNT = struct.Struct("<I")
_CHUNK = struct.Struct("<HBHIII")
_HEAD = struct.Struct("<IIIQqIQQB")
_SIZE, _SIZE_AT = struct.Struct("<Q"), 12
_OTHER = struct.Struct("<IH")
_TYPE = 0o170000
_DIRECTORY = _HEAD.pack(stat.S_IFDIR, 0, 0, 0, 0, 0, 0, 0, 0)
_NOTHING = bytes(_HEAD.size)
_FIRST, _LAST, _STRICT = 1, 2, 4
_LINKED = 1
_MANY = 0xFFFFFFFF
_NO_NAMES = frozenset((b"", b".", b".."))
_ANSWER = struct.Struct("<BIII")
_DIGESTS = struct.Struct("<IH")
_NAME = struct.Struct("<H")


def _text(entry: Entry | None) -> bytes | None:
    return None if entry is None else entry.target


def pack_heads(entries: Sequence[Entry | None], links: Container[int] = (), *, owners: bool) -> bytes:
    """What a listing says of the entries, all of one length. Of a directory its type alone: whatever else it has is
    compared with its own chunk. Without `owners` they count as 0, for a backup node that cannot set them."""
    pack, directory, of_type = _HEAD.pack, stat.S_IFDIR, _TYPE
    heads: list[bytes] = []
    add = heads.append
    for index, entry in enumerate(entries):
        if entry is None:
            add(_NOTHING)
            continue
        _, mode, uid, gid, size, mtime_ns, nlink, _, _, rdev, _, _, _, xattrs = entry
        if mode & of_type == directory:
            add(_DIRECTORY)
            continue
        if not owners:
            uid = gid = 0
        flags = _LINKED if index in links else 0
        add(pack(mode, uid, gid, size, mtime_ns, nlink if nlink < _MANY else _MANY, rdev, xattrs, flags))
    return b"".join(heads)


def _pack_here(here: Entry) -> bytes:
    return _HEAD.pack(here.mode, here.uid, here.gid, here.size, here.mtime_ns, 0, 0, here.xattrs, 0)


def encode_survey(chunks: Sequence[Chunk], *, owners: bool = True) -> bytes:
    """The chunks as one payload; `owners` as in `pack_heads`."""
    parts = [_COUNT.pack(len(chunks))]
    for chunk in chunks:
        flags = (_FIRST if chunk.first else 0) | (_LAST if chunk.last else 0) | (_STRICT if chunk.strict else 0)
        names = b"\0".join([entry.name for entry in chunk.entries])
        others = {index: text for index, entry in enumerate(chunk.entries) if (text := entry.target)}
        others.update(chunk.links)
        count = len(chunk.entries)
        parts.append(_CHUNK.pack(chunk.root, flags, len(chunk.path), count, len(names), len(others)))
        parts.append(chunk.path)
        parts.append(_pack_here(chunk.here))
        parts.append(pack_heads(chunk.entries, chunk.links, owners=owners))
        parts.append(names)
        parts += [_OTHER.pack(index, len(text)) + text for index, text in others.items()]
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


def decode_survey(payload: Buffer) -> list[Shown]:
    """The chunks again.

    Raises:
        ProtocolError: malformed, or with names that no directory can hold.
    """
    reader = _Reader(payload)
    (count,) = reader.unpack(_COUNT)
    left = SURVEY_LIMIT - count
    chunks = []
    for _ in range(count):
        chunks.append(_read_chunk(reader, left))
        left -= len(chunks[-1].names)
    reader.finish()
    return chunks


def _read_chunk(reader: _Reader, most: int) -> Shown:
    root, flags, path_len, entries, names_len, other_count = reader.unpack(_CHUNK)
    path = reader.take(path_len)
    if not safe_path(path):
        raise ProtocolError("unsafe path in a listing")
    mode, uid, gid, size, mtime_ns, _, _, xattrs, _ = reader.unpack(_HEAD)
    here = Entry(b"", mode, uid, gid, size, mtime_ns, xattrs=xattrs)
    if entries > most:
        raise ProtocolError(f"a listing exceeds the limit of {SURVEY_LIMIT} entries")
    heads = reader.take(entries * _HEAD.size)
    packed = reader.take(names_len)
    # Counted before they are split: eight MiB of nothing but ends would become as many names.
    if (packed.count(b"\0") + 1 != entries) if entries else packed:
        raise ProtocolError("a listing does not have a name for each entry")
    names = packed.split(b"\0") if entries else []
    if b"/" in packed or not _NO_NAMES.isdisjoint(names):
        raise ProtocolError("unsafe name in a listing")
    others = {}
    for _ in range(other_count):
        index, length = reader.unpack(_OTHER)
        others[index] = text = reader.take(length)
        if index >= entries:
            raise ProtocolError("a text of no entry in a listing")
        if heads[index * _HEAD.size + _HEAD.size - 1] & _LINKED and not safe_path(text):
            raise ProtocolError("unsafe link in a listing")
    first, last, strict = bool(flags & _FIRST), bool(flags & _LAST), bool(flags & _STRICT)
    return Shown(root, path, here, first, last, strict, names, heads, others)


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
