"""Frames of a journal: what they say of themselves, and how they are chained.

The format is here and not in a driver, so that the hash of a frame is the same wherever the journal is kept: it is
handed to other nodes as a proof of what the journal held.

    frame = header (fixed size, with a checksum of its own) · payload · hash
    hash  = BLAKE2b of header and payload; the header has the hash of the frame before
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple, Self

from i2core.api.records import Buffer

HASH_BYTES = 32
PAYLOAD_BYTES = 256 * 1024 * 1024
"""The most that one frame holds."""
NO_HASH = bytes(HASH_BYTES)
"""What stands before the first frame of a journal."""

_MAGIC = b"i2fr"
_HEADER = struct.Struct(f"<4sBBHIQ6q2Q{HASH_BYTES}s")
_SEAL = struct.Struct(f"<Q{HASH_BYTES}s{HASH_BYTES}s{HASH_BYTES}s")
_CHECK_BYTES = 8
HEADER_BYTES = _HEADER.size + _CHECK_BYTES
OVERHEAD_BYTES = HEADER_BYTES + HASH_BYTES
"""What a frame takes besides its payload."""


class FrameKind(enum.IntEnum):
    """Whose frame it is."""

    BATCH = 1
    """The caller's."""
    MERGE = 2
    """The journal's own: which merged segments are true (`seals`). It holds no records, and `Journal.read`
    leaves it out."""


class Header(NamedTuple):
    """What the caller says of a frame. Seqs and times never go back from one frame to the next."""

    epoch: int
    first_seq: int
    """The first record's seq; with no records the next one that will be used."""
    records: int
    first_ns: int
    """Time of the first record's change, by the work node's clock; nanoseconds since the epoch. With no records: the
    `last_ns` of the frame before (`Segment.last_ns` of the last segment)."""
    last_ns: int
    """Time of the last record's change."""
    applied_ns: int
    """When the frame was planned, by this node's clock."""

    @property
    def next_seq(self) -> int:
        """The seq after the last record of this frame."""
        return self.first_seq + self.records


class Draft(NamedTuple):
    """A frame to be written."""

    header: Header
    payload: Buffer
    """Opaque, at most `PAYLOAD_BYTES`."""


class Position(NamedTuple):
    """A place in the journal; positions of one journal are compared within one segment alone."""

    segment: int
    offset: int
    """Bytes from the beginning of the segment."""


class Placed(NamedTuple):
    """A frame that has its place."""

    number: int
    """Counts the frames of the chain from 1 on, those of the journal itself included. In a merged segment: those of
    that segment."""
    at: Position
    """Where the frame begins."""
    payload_bytes: int
    hash: bytes

    @property
    def payload_at(self) -> Position:
        """Where the payload begins: `Journal.pieces` reads parts of it."""
        return Position(self.at.segment, self.at.offset + HEADER_BYTES)

    @property
    def end(self) -> Position:
        """Where the next frame begins, if it is in the same segment."""
        return Position(self.at.segment, self.at.offset + OVERHEAD_BYTES + self.payload_bytes)


class Frame(NamedTuple):
    """A frame that was read and proved."""

    header: Header
    placed: Placed
    payload: bytes


class Tip(NamedTuple):
    """The last frame of a chain: proves everything before it. Kept with the durable position of the replica, and by the
    work node, so that a journal whose end was cut off is found out."""

    number: int = 0
    next_seq: int = 0
    """The seq after the last record."""
    hash: bytes = NO_HASH

    def encode(self) -> str:
        """As text, for what is kept."""
        return f"{self.number:x} {self.next_seq:x} {self.hash.hex()}"

    @classmethod
    def decode(cls, text: str) -> Self:
        """The tip again.

        Raises:
            ValueError: the text is none.
        """
        number, next_seq, digest = text.split(" ")
        if len(digest) != 2 * HASH_BYTES:
            raise ValueError("no hash of a frame")
        return cls(int(number, 16), int(next_seq, 16), bytes.fromhex(digest))


class Seal(NamedTuple):
    """That a merged segment is what it was made as. Stands in a MERGE frame, so that the chain proves it."""

    segment: int
    hash: bytes
    """Of the segment's own last frame."""
    before: bytes
    """Hash of the frame before the first one that it replaces."""
    after: bytes
    """Hash of the last frame that it replaces."""


class Head(NamedTuple):
    """The header of a frame as it is stored: the caller's part, and what the journal adds."""

    kind: FrameKind
    journal: int
    """A random number of the journal's own. Payloads may hold anything, also frames of other journals: none of them is
    taken for a frame of this one."""
    header: Header
    number: int
    settled: int
    """Number of the frame up to which all was durable when this one was written. A frame that is damaged, and is
    settled by a later one, was not torn by a crash."""
    payload_bytes: int
    previous: bytes
    """Hash of the frame before."""

    def encode(self) -> bytes:
        """The bytes of the header, with their checksum."""
        part = _HEADER.pack(
            _MAGIC,
            self.kind,
            0,
            0,
            self.payload_bytes,
            self.journal,
            *self.header,
            self.number,
            self.settled,
            self.previous,
        )
        return part + _check(part)

    @classmethod
    def decode(cls, data: Buffer) -> Self | None:
        """The header again; None when these `HEADER_BYTES` bytes are none."""
        part = bytes(data[: _HEADER.size])
        if len(data) != HEADER_BYTES or _check(part) != bytes(data[_HEADER.size :]):
            return None
        magic, kind, _, _, payload_bytes, journal, *fields = _HEADER.unpack(part)
        if magic != _MAGIC or kind not in FrameKind.__members__.values() or payload_bytes > PAYLOAD_BYTES:
            return None
        number, settled, previous = fields[6:]
        return cls(FrameKind(kind), journal, Header(*fields[:6]), number, settled, payload_bytes, previous)

    def hash_with(self, payload: Buffer) -> bytes:
        """The hash of the frame."""
        return frame_hash(self.encode(), payload)


def frame_hash(head: bytes, payload: Buffer) -> bytes:
    """The hash of a frame with these bytes as its header."""
    digest = blake2b(head, digest_size=HASH_BYTES)
    digest.update(payload)
    return digest.digest()


def find_magic(data: bytes, start: int) -> int:
    """Where a header may begin in `data`, from `start` on; -1 where none can. For looking behind damage."""
    return data.find(_MAGIC, start)


def encode_seals(seals: Iterable[Seal]) -> bytes:
    """The payload of a MERGE frame."""
    return b"".join(_SEAL.pack(*seal) for seal in seals)


def decode_seals(payload: bytes) -> list[Seal]:
    """The seals of a MERGE frame whose hash is right."""
    return [Seal(*fields) for fields in _SEAL.iter_unpack(payload)]


def _check(part: bytes) -> bytes:
    return blake2b(part, digest_size=_CHECK_BYTES).digest()
