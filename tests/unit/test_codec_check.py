"""`check_codec` passes a good codec, and finds each way in which a codec can break its contract."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest

from i2core.api import Buffer, Codec, CodecContext, NoConfig, ProtocolError, UsageError
from i2core.testing import CHECKS, XOR, XorCodec, check_codec


class _Inflated(XorCodec):
    """A zlib codec that checks the limit after it has all the output in memory."""

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        return zlib.compress(data, 1)

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        try:
            payload = zlib.decompress(data)
        except zlib.error as error:
            raise ProtocolError("damaged") from error
        if len(payload) > limit:
            raise ProtocolError("too long")
        return payload


class _OverLimit(XorCodec):
    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        return super().decode(data, seq=seq, header=header, limit=1 << 40)


class _CutShort(XorCodec):
    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        return bytes(super().decode(data, seq=seq, header=header, limit=1 << 40))[:limit]


class _OtherError(XorCodec):
    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        if len(data) < 16:
            raise IndexError("no checksum")
        return super().decode(data, seq=seq, header=header, limit=limit)


class _ScribblesOnInput(XorCodec):
    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        encoded = super().encode(data, seq=seq, header=header)
        if isinstance(data, bytearray):
            data[:1] = b"!"
        return encoded


class _ForgetsHeader(XorCodec):
    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        return super().encode(data, seq=seq, header=b"")

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        return super().decode(data, seq=seq, header=b"", limit=limit)


class _IgnoresTail(XorCodec):
    """Bytes after the payload are not detected."""

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        return bytes(super().encode(data, seq=seq, header=header)) + b"tail"

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        return super().decode(bytes(data[:-4]), seq=seq, header=header, limit=limit)


class _SharedBuffer(XorCodec):
    """One thread's output is in a buffer to which another thread writes."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        self._buffer[:] = data
        time.sleep(0.001)  # a thread that sleeps gives the others their turn
        return bytes(super().encode(self._buffer, seq=seq, header=header))


class _OwnSalt(XorCodec):
    """Only the instance that encoded can decode."""

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        return super().encode(data, seq=seq, header=header + str(id(self)).encode())

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        return super().decode(data, seq=seq, header=header + str(id(self)).encode(), limit=limit)


async def _check(codec: type[Codec]) -> None:
    @asynccontextmanager
    async def open_codec(config: NoConfig, context: CodecContext) -> AsyncIterator[Codec]:
        yield codec()

    await check_codec(attrs.evolve(XOR, open=open_codec))


async def test_the_twin_passes() -> None:
    await check_codec(XOR)
    await CHECKS[XOR.kind](XOR, None)


@pytest.mark.parametrize(
    ("codec", "complaint"),
    [
        (_Inflated, "took .* bytes of memory"),
        (_OverLimit, "bytes, .* are allowed"),
        (_CutShort, "truncated the payload"),
        (_OtherError, "IndexError.* instead of ProtocolError"),
        (_ScribblesOnInput, "encode changed its input"),
        (_ForgetsHeader, "of seq and header only seq is bound"),
        (_IgnoresTail, "not detected"),
        (_SharedBuffer, "in several threads at once"),
        (_OwnSalt, "decode refused the output of encode"),
    ],
)
async def test_a_broken_codec_is_found(codec: type[Codec], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        await _check(codec)


async def test_what_is_no_codec_is_found() -> None:
    @asynccontextmanager
    async def open_nothing(config: NoConfig, context: CodecContext) -> AsyncIterator[None]:
        yield None

    with pytest.raises(AssertionError, match="NoneType, which is not a Codec"):
        await check_codec(attrs.evolve(XOR, open=open_nothing))


async def test_wrong_options_are_the_callers() -> None:
    with pytest.raises(UsageError, match="level"):
        await check_codec(XOR, {"level": 3})
