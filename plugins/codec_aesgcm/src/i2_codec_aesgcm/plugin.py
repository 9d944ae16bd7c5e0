"""The drivers of this plugin. Keeps imports small: the cipher is loaded when the codec is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_codec_aesgcm.config import AesGcmConfig
from i2core.api import Codec, CodecContext, DriverKind, DriverSpec, hookimpl, in_thread


@asynccontextmanager
async def open_aesgcm(config: AesGcmConfig, context: CodecContext) -> AsyncIterator[Codec]:
    """The codec with the configured secret.

    Raises:
        UsageError: the secret's file cannot be read, may be read by others, or contains no key.
    """
    from i2_codec_aesgcm.codec import AesGcmCodec
    from i2_codec_aesgcm.secret import master_key

    # In a thread: reading a file, and scrypt, which is slow on purpose, would block the event loop.
    master = await in_thread(master_key, config, context.rule)
    yield AesGcmCodec(master, context.rule)


@hookimpl
def i2_codecs() -> Iterable[DriverSpec]:
    return (
        DriverSpec(
            kind=DriverKind.CODEC,
            name="aesgcm",
            summary="AES-256-GCM encryption",
            config=AesGcmConfig,
            example={"passphrase": "correct horse battery staple"},
            open=open_aesgcm,
        ),
    )
