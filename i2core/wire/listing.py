"""Listings and verdicts: how a mirror asks the backup node for differences.

A SURVEY frame carries chunks of directories as the source sees them; the VERDICTS frame that answers it carries, for
each chunk in the same order, one verdict byte per entry. Block digests of small files that must be compared are sent
with the verdicts; larger files are compared by HASHES requests. docs/wire-format.md is the reference.
"""

from __future__ import annotations

import enum
import stat
import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from i2core.api import Entry, ProtocolError
from i2core.api.blockmap import DIGEST_BYTES
from i2core.api.inode_flags import UNREAD
from i2core.api.records import EARLIEST_NS, LATEST_NS, Buffer, safe_path
from i2core.wire.encoding import join_time, split_time
from i2core.wire.payload import COUNT, NAMES_LIMIT, PayloadReader, pack_names

INLINE_BLOCKS = 16
"""Files of up to this many blocks get their digests with the verdict."""
SURVEY_LIMIT = 10_000
"""Most chunks and entries together in one SURVEY: several times the normal number."""


class Verdict(enum.IntFlag):
    """The data that the backup node needs for an entry."""

    SAME = 0
    META = 1
    """Mode, owner, mtime, extended attributes or inode flags differ."""
    WHOLE = 2
    """It is missing, of another kind, or cannot be the base of a difference."""
    BLOCKS = 4
    """A base is there: compare block digests, send what differs."""
    LINK = 8
    """It must become another name of the file given in the listing."""


class Listed(NamedTuple):
    """An entry of a listing. `link` is the path of the first listed name of the same file, if there is an earlier
    one."""

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

    @property
    def flags(self) -> bool:
        """True when the rule carries inode flags: heads have them then."""
        return self.here.flags != UNREAD


class ReceivedChunk(NamedTuple):
    """A chunk as received by the backup node. Only names are decoded at once. The metadata of entries stays packed in
    `heads`: the replica's own entries are packed too, and equal bytes need no decoding."""

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

    @property
    def _layout(self) -> struct.Struct:
        return _layout(self.here.flags != UNREAD)

    def listed(self, index: int) -> Listed:
        """One entry."""
        layout = self._layout
        head = layout.unpack_from(self.heads, index * layout.size)
        mode, uid, gid, size, mtime_ns, nlink, rdev, era, xattrs, *more, flags = head
        if era:
            mtime_ns = join_time(era, mtime_ns)
        other = self.others.get(index, b"")
        link = other if flags & _LINKED else None
        # tuple.__new__ with all fields takes a third of the time of the class, and there may be one for each file.
        make = tuple.__new__
        target = other if link is None else b""
        (inode_flags,) = more or (UNREAD,)
        fields = (
            self.names[index],
            mode,
            uid,
            gid,
            size,
            mtime_ns,
            nlink,
            0,
            0,
            rdev,
            0,
            0,
            target,
            xattrs,
            inode_flags,
        )
        return make(Listed, (make(Entry, fields), link))

    def size(self, index: int) -> int:
        """The size of one entry in bytes."""
        size: int = _SIZE.unpack_from(self.heads, index * self._layout.size + _SIZE_AT)[0]
        return size

    def links(self) -> Iterator[bytes]:
        """The link targets of all entries that are links."""
        size = self._layout.size
        return (text for index, text in self.others.items() if self.heads[index * size + size - 1] & _LINKED)

    def differing(self, there: Sequence[Entry | None], *, owners: bool) -> Sequence[int]:
        """The indexes of the entries to check, given the replica's entries: those that differ in any field, and those
        with several names."""
        heads, size = pack_heads(there, owners=owners, flags=self.here.flags != UNREAD), self._layout.size
        shared = [index for index, entry in enumerate(there) if entry is not None and entry.nlink > 1]
        texts = [index for index, text in self.others.items() if _text(there[index]) != text]
        if heads == self.heads:
            return sorted({*shared, *texts}) if shared or texts else ()
        ats = range(0, len(heads), size)
        unlike = [at // size for at in ats if heads[at : at + size] != self.heads[at : at + size]]
        return sorted({*shared, *texts, *unlike})


class ChunkVerdicts(NamedTuple):
    """The answer to one chunk: the directory's own verdict, one per entry, inline digests by index, and (with the last
    chunk of a directory) the names that only the replica has. `more`: the replica has names there that the source may
    lack, and they do not fit in; a `NamesQuery` returns all names of the directory."""

    here: Verdict
    verdicts: bytes
    digests: dict[int, bytes]
    orphans: list[bytes]
    more: bool = False


_CHUNK = struct.Struct("<HBHIII")
_HEAD = struct.Struct("<IIIQqIIiQB")
"""mode, uid, gid, size, mtime, nlink, rdev, the mtime's era (see `split_time`), attributes, flags."""
_HEAD_FLAGS = struct.Struct("<IIIQqIIiQqB")
"""The same, with inode flags before the last field."""
_SIZE, _SIZE_AT = struct.Struct("<Q"), 12
_OTHER = struct.Struct("<IH")
CHUNK_HEAD_BYTES = _CHUNK.size + _HEAD_FLAGS.size
"""Most bytes of a chunk without its path and its entries."""
_TYPE = 0o170000
_DIRECTORY = _HEAD.pack(stat.S_IFDIR, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_DIRECTORY_FLAGS = _HEAD_FLAGS.pack(stat.S_IFDIR, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_FIRST, _LAST, _STRICT, _FLAGS = 1, 2, 4, 8
_MORE = 16
"""A bit in the byte of the directory's own verdict."""
_LINKED = 1
_MANY = 0xFFFFFFFF
_NO_NAMES = frozenset((b"", b".", b".."))
_ANSWER = struct.Struct("<BIII")
_DIGESTS = struct.Struct("<IH")


def _layout(flags: bool) -> struct.Struct:
    """The layout of a head, with or without inode flags."""
    return _HEAD_FLAGS if flags else _HEAD


def _text(entry: Entry | None) -> bytes | None:
    return None if entry is None else entry.target


def pack_heads(
    entries: Sequence[Entry | None], links: Container[int] = (), *, owners: bool, flags: bool = False
) -> bytes:
    """The entries' metadata in a listing, all of one length. For a directory only its type: its other metadata is
    compared with its own chunk. Without `owners` they count as 0, for a backup node that cannot set them. `flags`: with
    inode flags."""
    directory, of_type, earliest, latest = stat.S_IFDIR, _TYPE, EARLIEST_NS, LATEST_NS
    layout, type_alone = (_HEAD_FLAGS, _DIRECTORY_FLAGS) if flags else (_HEAD, _DIRECTORY)
    pack, nothing = layout.pack, bytes(layout.size)
    heads: list[bytes] = []
    add = heads.append
    for index, entry in enumerate(entries):
        if entry is None:
            add(nothing)
            continue
        _, mode, uid, gid, size, mtime_ns, nlink, _, _, rdev, _, _, _, xattrs, inode_flags = entry
        if mode & of_type == directory:
            add(type_alone)
            continue
        if not owners:
            uid = gid = 0
        linked = _LINKED if index in links else 0
        nlink, era = min(nlink, _MANY), 0
        if not earliest <= mtime_ns <= latest:
            era, mtime_ns = split_time(mtime_ns)
        if flags:
            add(pack(mode, uid, gid, size, mtime_ns, nlink, rdev, era, xattrs, inode_flags, linked))
        else:
            add(pack(mode, uid, gid, size, mtime_ns, nlink, rdev, era, xattrs, linked))
    return b"".join(heads)


def chunk_bytes(chunk: Chunk) -> int:
    """Bytes that the chunk takes within the payload of `encode_survey`."""
    count = len(chunk.entries)
    texts = [len(entry.target) + _OTHER.size for entry in chunk.entries if entry.target]
    texts += [len(link) + _OTHER.size for link in chunk.links.values()]
    names = sum([len(entry.name) for entry in chunk.entries]) + max(0, count - 1)
    return _CHUNK.size + len(chunk.path) + (1 + count) * _layout(chunk.flags).size + names + sum(texts)


def _pack_here(here: Entry) -> bytes:
    era, mtime_ns = split_time(here.mtime_ns)
    flags = () if here.flags == UNREAD else (here.flags,)
    head = here.mode, here.uid, here.gid, here.size, mtime_ns, 0, 0, era, here.xattrs, *flags, 0
    return _layout(bool(flags)).pack(*head)


def encode_survey(chunks: Sequence[Chunk], *, owners: bool = True) -> bytes:
    """The chunks as one payload; `owners` as in `pack_heads`."""
    packed = [COUNT.pack(len(chunks))]
    for chunk in chunks:
        flags = (_FIRST if chunk.first else 0) | (_LAST if chunk.last else 0) | (_STRICT if chunk.strict else 0)
        flags |= _FLAGS if chunk.flags else 0
        names = b"\0".join([entry.name for entry in chunk.entries])
        others = {index: text for index, entry in enumerate(chunk.entries) if (text := entry.target)}
        others.update(chunk.links)
        count = len(chunk.entries)
        packed.append(_CHUNK.pack(chunk.root, flags, len(chunk.path), count, len(names), len(others)))
        packed.append(chunk.path)
        packed.append(_pack_here(chunk.here))
        packed.append(pack_heads(chunk.entries, chunk.links, owners=owners, flags=chunk.flags))
        packed.append(names)
        packed += [_OTHER.pack(index, len(text)) + text for index, text in others.items()]
    return b"".join(packed)


def decode_survey(payload: Buffer) -> list[ReceivedChunk]:
    """Decodes the chunks.

    Raises:
        ProtocolError: malformed, or with names that no directory can hold.
    """
    reader = PayloadReader(payload)
    (count,) = reader.unpack(COUNT)
    left = SURVEY_LIMIT - count
    chunks = []
    for _ in range(count):
        chunks.append(_read_chunk(reader, left))
        left -= len(chunks[-1].names)
    reader.finish()
    return chunks


def _read_chunk(reader: PayloadReader, most: int) -> ReceivedChunk:
    root, flags, path_len, entries, names_len, other_count = reader.unpack(_CHUNK)
    path = reader.take(path_len)
    if not safe_path(path):
        raise ProtocolError("unsafe path in a listing")
    layout = _layout(bool(flags & _FLAGS))
    mode, uid, gid, size, mtime_ns, _, _, era, xattrs, *more, _ = reader.unpack(layout)
    if more and more[0] < 0:
        raise ProtocolError("a directory without inode flags in a listing that has them")
    here = Entry(b"", mode, uid, gid, size, join_time(era, mtime_ns), xattrs=xattrs, flags=more[0] if more else UNREAD)
    if entries > most:
        raise ProtocolError(f"a listing exceeds the limit of {SURVEY_LIMIT} entries")
    heads = reader.take(entries * layout.size)
    packed = reader.take(names_len)
    # Counted before the split: eight MiB of separators alone would become eight million names.
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
            raise ProtocolError("a text without an entry in a listing")
        if heads[index * layout.size + layout.size - 1] & _LINKED and not safe_path(text):
            raise ProtocolError("unsafe link in a listing")
    first, last, strict = bool(flags & _FIRST), bool(flags & _LAST), bool(flags & _STRICT)
    return ReceivedChunk(root, path, here, first, last, strict, names, heads, others)


def encode_verdicts(judged: Sequence[ChunkVerdicts]) -> bytes:
    """The answers as one payload."""
    packed = [COUNT.pack(len(judged))]
    for here, verdicts, digests, orphans, more in judged:
        flags = here | (_MORE if more else 0)
        packed.append(_ANSWER.pack(flags, len(verdicts), len(digests), len(orphans)))
        packed.append(verdicts)
        for index, found in digests.items():
            packed.append(_DIGESTS.pack(index, len(found) // DIGEST_BYTES) + found)
        packed.append(pack_names(orphans))
    return b"".join(packed)


def decode_verdicts(payload: Buffer) -> list[ChunkVerdicts]:
    """Decodes the answers.

    Raises:
        ProtocolError: malformed, or with names that no directory can hold.
    """
    reader = PayloadReader(payload)
    (count,) = reader.unpack(COUNT)
    if count > SURVEY_LIMIT:
        raise ProtocolError(f"{count} answers to one listing exceed the limit of {SURVEY_LIMIT}")
    names_left = NAMES_LIMIT
    judged = []
    for _ in range(count):
        here, verdict_count, digest_count, orphan_count = reader.unpack(_ANSWER)
        verdicts = reader.take(verdict_count)
        if digest_count > verdict_count or orphan_count > names_left:
            raise ProtocolError("an answer to a listing has more items than possible")
        digests = {}
        for _ in range(digest_count):
            index, blocks = reader.unpack(_DIGESTS)
            digests[index] = reader.take(blocks * DIGEST_BYTES)
        orphans = reader.names(orphan_count)
        names_left -= orphan_count
        judged.append(ChunkVerdicts(Verdict(here & 15), verdicts, digests, orphans, bool(here & _MORE)))
    reader.finish()
    return judged
