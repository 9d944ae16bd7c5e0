"""Payloads as one marker byte, followed by a zstd frame or by the original bytes.

    payload = 0x00 data | 0x01 frame

A frame always contains the size of its content, so that a decoder can check the limit before it starts; a frame without
the size is refused.
"""

from __future__ import annotations

import threading

import pyzstd
from pyzstd import CParameter, DParameter

from i2_codec_zstd.config import Level
from i2core.api import Buffer, Code, Codec, ProtocolError, StopRule

LEVELS = {Level.LOW: 1, Level.MEDIUM: 3, Level.HIGH: 6}
"""zstd levels, measured on batches of 1 MiB: above 6 the output does not get smaller."""

_STORED, _ZSTD = b"\x00", b"\x01"
_WINDOW_LOG_MIN, _WINDOW_LOG_MAX = 10, 27
"""The format's smallest window, and the largest that zstd decodes by default, as powers of two."""


class _PerThread(threading.local):
    """One compressor for each thread: creating one costs more than compressing a small batch."""

    def __init__(self, level: int) -> None:
        self.compressor = pyzstd.ZstdCompressor({CParameter.compressionLevel: level, CParameter.checksumFlag: 1})


class ZstdCodec(Codec):
    """Compresses each payload separately; no state is kept between payloads."""

    def __init__(self, level: Level = Level.LOW) -> None:
        self._local = _PerThread(LEVELS[level])

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        compressor = self._local.compressor
        try:
            frame = compressor.compress(data, compressor.FLUSH_FRAME)
        except (pyzstd.ZstdError, MemoryError) as error:
            raise StopRule(f"zstd: {error or 'out of memory'}", code=Code.COMPRESS) from error
        return b"".join((_ZSTD, frame) if len(frame) < len(data) else (_STORED, data))

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        view = memoryview(data)
        marker, body = bytes(view[:1]), view[1:]
        if marker == _STORED:
            if len(body) > limit:
                raise ProtocolError(f"payload of {len(body)} bytes where {limit} are allowed", code=Code.DECOMPRESS)
            return body
        if marker != _ZSTD:
            raise ProtocolError("payload is neither stored nor zstd", code=Code.DECOMPRESS)
        try:
            return _decompress(body, limit)
        except pyzstd.ZstdError as error:
            raise ProtocolError(f"damaged zstd frame: {error}", code=Code.DECOMPRESS) from error


def _decompress(frame: memoryview, limit: int) -> bytes:
    """The content of exactly one frame of at most `limit` bytes."""
    size = pyzstd.get_frame_info(frame).decompressed_size
    if size is None or size > limit:
        raise ProtocolError(f"zstd frame of {size or 'unknown'} bytes where {limit} are allowed", code=Code.DECOMPRESS)
    # A hostile header may request a window far larger than its content.
    window_log = min(max((size - 1).bit_length(), _WINDOW_LOG_MIN), _WINDOW_LOG_MAX)
    decompressor = pyzstd.ZstdDecompressor(option={DParameter.windowLogMax: window_log})
    content = decompressor.decompress(frame, max_length=max(size, 1))
    if not decompressor.eof or decompressor.unused_data or len(content) != size:
        raise ProtocolError("zstd frame cut short or followed by other bytes", code=Code.DECOMPRESS)
    return content
