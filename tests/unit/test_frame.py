"""Frames: they arrive as sent, however the stream is cut; anything else is refused before it costs memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Iterator
from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_pair

from i2core.api import I2Error, LinkError, ProtocolError
from i2core.wire.frame import FRAME_LIMIT, Frame, FrameStream, FrameType

HEADER = struct.Struct("<IBBHQ")


class Canned(trio.abc.Stream):
    """A stream that yields these chunks, then ends; it keeps what is sent."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._left = b""
        self.sent = bytearray()
        self.asked = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        assert max_bytes is not None
        self.asked += max_bytes
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            self._left = chunk
        given, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return given

    async def aclose(self) -> None:
        return None


async def frames_of(*chunks: bytes) -> list[Frame]:
    """All frames of a stream of these chunks."""
    stream, found = FrameStream(Canned(*chunks)), []
    while (frame := await stream.receive()) is not None:
        found.append(frame)
    return found


def encoded(frame_type: int = FrameType.BATCH, payload: bytes = b"", *, flags: int = 0, length: int = -1) -> bytes:
    """A valid or invalid frame."""
    return HEADER.pack(len(payload) if length < 0 else length, frame_type, flags, 7, 9) + payload


@given(
    st.sampled_from(FrameType),
    st.binary(max_size=300) | st.integers(65_500, 65_600).map(bytes),
    st.integers(0, 0xFFFF),
    st.integers(0, (1 << 64) - 1),
)
def test_round_trip(frame_type: FrameType, payload: bytes, ident: int, seq: int) -> None:
    async def main() -> None:
        near, far = memory_stream_pair()
        sender, receiver = FrameStream(near), FrameStream(far)
        await sender.send(frame_type, memoryview(payload), ident=ident, seq=seq)
        await near.aclose()
        assert await receiver.receive() == Frame(frame_type, ident, seq, payload)
        assert await receiver.receive() is None
        assert sender.wire_bytes == receiver.wire_bytes == HEADER.size + len(payload)

    trio.run(main)


async def test_cuts_between_chunks_do_not_matter() -> None:
    raw = encoded(FrameType.PING) + encoded(FrameType.BATCH, b"payload") + encoded(FrameType.PONG)
    types = [FrameType.PING, FrameType.BATCH, FrameType.PONG]
    for at in range(1, len(raw)):
        assert [frame.type for frame in await frames_of(raw[:at], raw[at:])] == types
    assert [frame.type for frame in await frames_of(*(raw[at : at + 1] for at in range(len(raw))))] == types


async def test_an_end_within_a_frame_is_a_broken_link() -> None:
    raw = encoded(FrameType.BATCH, b"payload")
    for at in range(1, len(raw)):
        with pytest.raises(LinkError, match="ended within"):
            await frames_of(raw[:at])


@pytest.mark.parametrize("length", [FRAME_LIMIT + 1, 0xFFFFFFFF])
async def test_a_length_beyond_the_limit_is_refused_before_anything_is_read(length: int) -> None:
    canned = Canned(encoded(length=length), *[bytes(1 << 20)] * 100)
    with pytest.raises(ProtocolError, match="exceeds the limit"):
        await FrameStream(canned).receive()
    assert canned.asked < FRAME_LIMIT


async def test_the_longest_payload_passes() -> None:
    (frame,) = await frames_of(encoded(payload=bytes(FRAME_LIMIT)))
    assert len(frame.payload) == FRAME_LIMIT


@pytest.mark.parametrize("code", [0, max(FrameType) + 1, 255])
async def test_an_unknown_type_is_refused(code: int) -> None:
    with pytest.raises(ProtocolError):
        await frames_of(encoded(code))


@pytest.mark.parametrize("flags", [1, 0x80])
async def test_unknown_flags_are_refused(flags: int) -> None:
    with pytest.raises(ProtocolError):
        await frames_of(encoded(flags=flags))


async def test_an_announced_payload_that_never_comes_costs_no_memory() -> None:
    raw = encoded(length=FRAME_LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(LinkError):
            await frames_of(raw + b"only this")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < FRAME_LIMIT


@given(st.lists(st.binary(max_size=100) | st.builds(encoded, st.integers(0, 20), st.binary(max_size=20)), max_size=8))
def test_any_bytes_give_frames_or_the_two_errors(chunks: list[bytes]) -> None:
    async def main() -> None:
        try:
            found = await frames_of(*chunks)
        except I2Error as error:
            assert type(error) in (LinkError, ProtocolError)
        else:
            assert sum(HEADER.size + len(frame.payload) for frame in found) == sum(map(len, chunks))

    trio.run(main)


async def test_senders_do_not_mix_their_frames() -> None:
    near, far = memory_stream_pair()
    sender, receiver = FrameStream(near), FrameStream(far)
    async with trio.open_nursery() as nursery:
        for number in range(8):
            payload = bytes([number]) * 70_000
            nursery.start_soon(partial(sender.send, FrameType.BATCH, payload, seq=number))
    for _ in range(8):
        frame = await receiver.receive()
        assert frame is not None
        assert bytes(frame.payload) == bytes([frame.seq]) * 70_000


async def test_a_closed_stream_is_a_broken_link() -> None:
    near, far = memory_stream_pair()
    await far.aclose()
    with pytest.raises(LinkError):
        await FrameStream(near).send(FrameType.PING)
    await near.aclose()
    with pytest.raises(LinkError):
        await FrameStream(near).receive()
