"""The drivers of this plugin. Keeps imports small: zstd itself is loaded when the codec is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_codec_zstd.config import ZstdConfig
from i2core.api import Codec, CodecContext, DriverKind, DriverSpec, hookimpl


@asynccontextmanager
async def open_zstd(config: ZstdConfig, context: CodecContext) -> AsyncIterator[Codec]:
    """The codec at the configured level."""
    from i2_codec_zstd.codec import ZstdCodec

    yield ZstdCodec(config.level)


@hookimpl
def i2_codecs() -> Iterable[DriverSpec]:
    return (
        DriverSpec(
            kind=DriverKind.CODEC,
            name="zstd",
            summary="Zstandard compression",
            config=ZstdConfig,
            open=open_zstd,
            platforms=("linux", "darwin", "win32"),
        ),
    )
