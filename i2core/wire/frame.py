"""Frames: the unit on a stream. docs/wire-format.md is the reference.

    length u32 | type u8 | flags u8 | ident u16 | seq u64 | payload[length]      (little-endian)

`ident` joins an answer to its question, `seq` is the first seq of a batch. `aad` returns the fields that authenticating
codecs bind."""

from __future__ import annotations

import enum
import struct
from typing import NamedTuple

import trio

from i2core.api import Code, LinkError, ProtocolError, StopRule
from i2core.api.records import Buffer
from i2core.config.words import bilingual

FRAME_LIMIT = 8 * 1024 * 1024
"""Longest payload, before and after the codecs. A peer that announces more is disconnected."""
SMALL_BYTES = 16 * 1024
"""A payload up to this size is encoded and decoded in the event loop: a hop to a worker thread costs more."""

_HEADER = struct.Struct("<IBBHQ")
HEADER_BYTES = _HEADER.size
_AAD = struct.Struct("<BHQ")
_RECEIVE_BYTES = 1024 * 1024
_HEADER_RECEIVE_BYTES = 64 * 1024


class FrameType(enum.IntEnum):
    """The kind of a frame's payload; the value is its code on the wire."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    BATCH = 4
    ACK = 5
    SURVEY = 6
    VERDICTS = 7
    HASHES = 8
    DIGESTS = 9
    ORPHANS = 10
    DONE = 11
    FLUSH = 12
    PING = 13
    PONG = 14
    HOLD = 15
    FAULT = 16
    NAMES = 17
    NAMED = 18
    EXAMINE = 19
    EXAMINED = 20
    RECOVER = 21
    WAIT = 22
    STREAM = 23
    ORDER = 24
    CALL = 25
    ANSWER = 26
    PROGRESS = 27
    OUTCOME = 28


_TYPES = {int(t): t for t in FrameType}


class Frame(NamedTuple):
    """One frame, with its payload as it is on the link."""

    type: FrameType
    ident: int
    seq: int
    payload: Buffer

    @property
    def aad(self) -> bytes:
        """The header fields that codecs authenticate."""
        return aad(self.type, self.ident, self.seq)


def aad(frame_type: FrameType, ident: int, seq: int) -> bytes:
    """The header fields that codecs authenticate."""
    return _AAD.pack(frame_type, ident, seq)


def too_long(size: int, obj: str = "") -> StopRule:
    """The error of a message that no frame can carry. Senders keep within the limit (`i2core.wire.message_size`)."""
    return StopRule(
        bilingual(
            f"a message of {size} bytes, {FRAME_LIMIT} are allowed", f"消息长 {size} 字节，上限 {FRAME_LIMIT} 字节"
        ),
        code=Code.MESSAGE_TOO_LONG,
        obj=obj,
    )


class FrameStream:
    """Frames over a trio stream. One task receives; any number send. Counts bytes both ways."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._sending = trio.Lock()
        self._buffer = bytearray()
        self.wire_bytes = 0
        self.heard_at = trio.current_time()
        """trio's monotonic clock when bytes last arrived."""

    async def send(self, frame_type: FrameType, payload: Buffer = b"", *, ident: int = 0, seq: int = 0) -> None:
        """Sends one frame.

        Cancellation: half a frame may have been sent; the stream can only be closed.

        Raises:
            LinkError: the link broke.
            StopRule: the payload is longer than a frame (3625), so a retry would fail as well.
        """
        if len(payload) > FRAME_LIMIT:
            raise too_long(len(payload))
        header = _HEADER.pack(len(payload), frame_type, 0, ident, seq)
        async with self._sending:
            try:
                if len(payload) < 65536:
                    await self._stream.send_all(header + bytes(payload))
                else:
                    await self._stream.send_all(header)
                    await self._stream.send_all(payload)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise LinkError("the connection broke while sending") from error
        self.wire_bytes += len(header) + len(payload)

    async def receive(self) -> Frame | None:
        """The next frame; None when the peer closed the stream between two frames.

        Raises:
            LinkError: the link broke, or ended within a frame.
            ProtocolError: not a frame.
        """
        if not await self._fill(_HEADER.size):
            return None
        length, code, flags, ident, seq = _HEADER.unpack_from(self._buffer)
        frame_type = _TYPES.get(code)
        if frame_type is None or flags:
            raise ProtocolError(f"unknown frame type {code}")
        if length > FRAME_LIMIT:
            raise ProtocolError(f"frame of {length} bytes exceeds the limit of {FRAME_LIMIT}")
        del self._buffer[: _HEADER.size]
        return Frame(frame_type, ident, seq, await self._payload(length))

    async def _payload(self, length: int) -> bytes:
        """Exactly `length` bytes, copied once."""
        parts = [bytes(self._buffer[:length])]
        del self._buffer[:length]
        missing = length - len(parts[0])
        while missing:
            chunk = await self._receive(min(_RECEIVE_BYTES, missing))
            if not chunk:
                raise LinkError("the connection ended within a message")
            parts.append(chunk)
            missing -= len(chunk)
        return b"".join(parts)

    async def _fill(self, count: int) -> bool:
        """False when the stream ended between two frames."""
        while len(self._buffer) < count:
            chunk = await self._receive(_HEADER_RECEIVE_BYTES)
            if not chunk:
                if self._buffer:
                    raise LinkError("the connection ended within a message")
                return False
            self._buffer += chunk
        return True

    async def _receive(self, most: int) -> bytes:
        try:
            chunk = bytes(await self._stream.receive_some(most))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkError("the connection broke while receiving") from error
        self.heard_at = trio.current_time()
        self.wire_bytes += len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Closes the stream."""
        await self._stream.aclose()
