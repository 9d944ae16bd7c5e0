"""Derives the 32 bytes of the master key from the secret in a config, which both nodes share."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat

from i2_codec_aesgcm.config import AesGcmConfig
from i2core.api import Code, UsageError

KEY_BYTES = 32
_FILE_BYTES_MAX = 4096

# OWASP's parameters for 64 MiB: as hard to guess as its default of 128 MiB, with less memory on a small host.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 16, 8, 2


def master_key(config: AesGcmConfig, rule: str) -> bytes:
    """The rule's master key, 32 bytes. Blocks: reads a file, and takes about 0.4 s for a passphrase.

    Raises:
        UsageError: the secret's file cannot be read, may be read by others, or contains no key.
    """
    if config.key_file is not None:
        return _parse_key(_read_secret(config.key_file), config.key_file)
    if config.passphrase_file is not None:
        passphrase = _read_secret(config.passphrase_file).removesuffix(b"\n").removesuffix(b"\r")
        if not passphrase:
            raise UsageError("holds no passphrase", code=Code.ENCRYPT, obj=config.passphrase_file)
    else:
        passphrase = (config.passphrase or "").encode("utf-8", "surrogateescape")
    salt = hashlib.sha256(b"i2core aesgcm passphrase salt v1\0" + rule.encode("utf-8", "surrogateescape")).digest()
    memory = 128 * _SCRYPT_R * (_SCRYPT_N + _SCRYPT_P + 2)
    return hashlib.scrypt(passphrase, salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=memory, dklen=KEY_BYTES)


def _read_secret(path: str) -> bytes:
    """The whole file, which must be a small regular file that only its owner may read or write."""
    if not os.path.isabs(path):
        raise UsageError("must be an absolute path", obj=path)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_FILE_BYTES_MAX + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", code=Code.ENCRYPT, obj=path) from error
    if not stat.S_ISREG(mode):
        raise UsageError("is not a regular file", obj=path)
    if mode & 0o077:
        cause = f"group or others have access (mode {stat.S_IMODE(mode):04o})"
        raise UsageError(cause, obj=path, next_step="chmod 600")
    if len(content) > _FILE_BYTES_MAX:
        raise UsageError(f"is longer than {_FILE_BYTES_MAX} bytes", obj=path)
    return content


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for its writer


def _parse_key(content: bytes, path: str) -> bytes:
    """Parses 32 bytes given raw, as hex, or as base64; the length decides which."""
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    try:
        key = binascii.unhexlify(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        cause = "holds neither 32 raw bytes, nor 64 hex digits, nor the base64 of 32 bytes"
        raise UsageError(cause, code=Code.ENCRYPT, obj=path)
    return key
