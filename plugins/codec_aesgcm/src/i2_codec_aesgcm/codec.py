"""Payloads as AES-256-GCM messages under a new key each time the codec is opened.

    message = salt (16) | number (u64) | ciphertext | tag (16)
    key     = HKDF-SHA-256(master key, salt, info = purpose | rule)
    nonce   = 4 zero bytes | number
    bound   = seq (u64) | header

GCM is broken if a nonce repeats under one key. A counter kept on disk could repeat after a crash or a restored image.
A random salt for each opening gives a new key, under which the counter may start again. Every message contains the
salt, so that the receiver needs no state, and a resumed stream can be decoded from any message on.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from i2_codec_aesgcm.secret import KEY_BYTES
from i2core.api import Buffer, Code, Codec, ProtocolError

_PREFIX = struct.Struct(">16sQ")
_NONCE = struct.Struct(">4xQ")
_BOUND = struct.Struct(">Q")
SALT_BYTES = 16
TAG_BYTES = 16
OVERHEAD_BYTES = _PREFIX.size + TAG_BYTES
"""Bytes that a message adds to its payload."""

KEYS_KEPT = 8
"""Keys of senders that a receiver caches: one for each connection of the rule, and some for connections that are
ending."""


class AesGcmCodec(Codec):
    """Encrypts and authenticates payloads; `seq` and `header` are bound. Each opening has its own message key."""

    def __init__(self, master: bytes, rule: str) -> None:
        self._master = master
        self._info = b"i2core aesgcm message key v1\0" + rule.encode("utf-8", "surrogateescape")
        self._salt = os.urandom(SALT_BYTES)
        self._cipher = self._derive(self._salt)
        self._sent = 0
        self._known: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._lock = threading.Lock()

    def _derive(self, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, self._info).derive(self._master))

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        with self._lock:
            number = self._sent
            self._sent += 1
        message = bytearray(OVERHEAD_BYTES + len(data))
        _PREFIX.pack_into(message, 0, self._salt, number)
        room = memoryview(message)[_PREFIX.size :]
        self._cipher.encrypt_into(_NONCE.pack(number), data, _BOUND.pack(seq) + header, room)
        return message

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        size = len(data) - OVERHEAD_BYTES
        if size < 0:
            raise ProtocolError("encrypted payload cut short", code=Code.DECRYPT)
        if size > limit:
            raise ProtocolError(f"encrypted payload of {size} bytes where {limit} are allowed", code=Code.DECRYPT)
        salt, number = _PREFIX.unpack_from(data)
        with self._lock:
            cipher = self._known.get(salt)
        sealed = memoryview(data)[_PREFIX.size :]
        payload = bytearray(size)
        cipher = cipher or self._derive(salt)
        try:
            cipher.decrypt_into(_NONCE.pack(number), sealed, _BOUND.pack(seq) + header, payload)
        except InvalidTag:
            cause = "encrypted payload was changed, or belongs to another rule, position or key"
            raise ProtocolError(cause, code=Code.DECRYPT) from None
        self._remember(salt, cipher)
        return payload

    def _remember(self, salt: bytes, cipher: AESGCM) -> None:
        """Caches the key of a sender that has proved to have the secret. Keys of other senders would only displace
        valid ones."""
        with self._lock:
            self._known[salt] = cipher
            self._known.move_to_end(salt)
            if len(self._known) > KEYS_KEPT:
                self._known.popitem(last=False)
