"""An i2core codec on zlib, which Python brings along."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from zlib import compress, decompressobj, error

import attrs

from i2core.api import Buffer, Code, Codec, CodecContext, DriverKind, DriverSpec, ProtocolError, hookimpl


@attrs.frozen
class ZlibConfig:
    level: int = attrs.field(default=6, validator=[attrs.validators.ge(1), attrs.validators.le(9)])


class ZlibCodec(Codec):
    def __init__(self, level: int) -> None:
        self._level = level

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        return compress(data, self._level)

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        stream = decompressobj()
        try:
            payload = stream.decompress(data, limit + 1)  # one more than allowed tells too long from just fitting
        except error as cause:
            raise ProtocolError(f"damaged zlib stream: {cause}", code=Code.DECOMPRESS) from cause
        if len(payload) > limit or not stream.eof or stream.unused_data:
            raise ProtocolError("zlib stream too long or cut short", code=Code.DECOMPRESS)
        return payload


@asynccontextmanager
async def open_zlib(config: ZlibConfig, context: CodecContext) -> AsyncIterator[Codec]:
    yield ZlibCodec(config.level)


@hookimpl
def i2_codecs() -> Iterable[DriverSpec]:
    return [DriverSpec(kind=DriverKind.CODEC, name="zlib", summary="zlib", config=ZlibConfig, open=open_zlib, api=1)]
