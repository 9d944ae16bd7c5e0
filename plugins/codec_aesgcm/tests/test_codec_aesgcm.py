"""The aesgcm codec: its contract, and the promises that encryption stands on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from i2_codec_aesgcm.codec import KEYS_KEPT, OVERHEAD_BYTES, AesGcmCodec
from i2_codec_aesgcm.plugin import i2_codecs

from i2core.api import Code, ProtocolError
from i2core.testing import check_codec

_MASTER = bytes(range(32))


def _codec(rule: str = "data1", master: bytes = _MASTER) -> AesGcmCodec:
    return AesGcmCodec(master, rule)


def _encode(codec: AesGcmCodec, payload: bytes = b"payload", seq: int = 7, header: bytes = b"head") -> bytes:
    return bytes(codec.encode(payload, seq=seq, header=header))


def _decode(codec: AesGcmCodec, message: bytes, seq: int = 7, header: bytes = b"head") -> bytes:
    return bytes(codec.decode(message, seq=seq, header=header, limit=1 << 20))


async def test_it_keeps_its_contract() -> None:
    (spec,) = i2_codecs()
    await check_codec(spec)


def test_the_message_is_as_the_readme_says() -> None:
    message = _encode(_codec(), b"payload")
    salt, number, sealed = message[:16], message[16:24], message[24:]
    key = HKDF(SHA256(), 32, salt, b"i2core aesgcm message key v1\0data1").derive(_MASTER)
    bound = (7).to_bytes(8, "big") + b"head"
    assert AESGCM(key).decrypt(bytes(4) + number, sealed, bound) == b"payload"
    assert len(message) == len(b"payload") + OVERHEAD_BYTES == 47


def test_no_salt_and_number_come_twice_from_any_thread_or_opening() -> None:
    seen: list[bytes] = []

    def work(codec: AesGcmCodec) -> None:
        seen.extend(_encode(codec)[:24] for _ in range(500))

    codecs = [_codec(), _codec()]
    threads = [threading.Thread(target=work, args=(codec,)) for codec in codecs for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == len(seen) == 4_000
    assert len({prefix[:16] for prefix in seen}) == 2
    assert {int.from_bytes(prefix[16:], "big") for prefix in seen} == set(range(2_000))


def test_the_payload_does_not_show() -> None:
    assert b"payload" not in _encode(_codec(), b"payload" * 100)


@pytest.mark.parametrize(
    "decode",
    [
        lambda message: _decode(_codec(), message, seq=8),
        lambda message: _decode(_codec(), message, header=b"heaD"),
        lambda message: _decode(_codec(rule="data2"), message),
        lambda message: _decode(_codec(master=bytes(32)), message),
        *(lambda message, at=at: _decode(_codec(), _flipped(message, at)) for at in range(47)),
        lambda message: _decode(_codec(), message + b"\0"),
        lambda message: _decode(_codec(), message[:-1]),
        lambda message: _decode(_codec(), message[:39]),
        lambda message: _decode(_codec(), b""),
    ],
)
def test_anything_else_than_what_was_sent_is_refused(decode: Callable[[bytes], bytes]) -> None:
    message = _encode(_codec())
    assert _decode(_codec(), message) == b"payload"
    with pytest.raises(ProtocolError) as caught:
        decode(message)
    assert caught.value.code is Code.DECRYPT


def _flipped(message: bytes, at: int) -> bytes:
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]


def test_too_long_is_refused_before_it_is_decrypted() -> None:
    message = _encode(_codec(), bytes(1000))
    with pytest.raises(ProtocolError, match="1000 bytes where 999 are allowed"):
        _codec().decode(message, seq=7, header=b"head", limit=999)
    assert _codec().decode(message, seq=7, header=b"head", limit=1000) == bytes(1000)


def test_a_receiver_reads_any_number_of_senders_and_keeps_few_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = _codec()
    derived: list[bytes] = []
    derive = receiver._derive

    def count(salt: bytes) -> AESGCM:
        derived.append(salt)
        return derive(salt)

    monkeypatch.setattr(receiver, "_derive", count)
    senders = [_codec() for _ in range(KEYS_KEPT)]
    for _ in range(3):
        for sender in senders:
            assert _decode(receiver, _encode(sender)) == b"payload"
    assert len(derived) == KEYS_KEPT
    assert _decode(receiver, _encode(_codec())) == b"payload"
    assert len(receiver._known) == KEYS_KEPT


def test_a_stranger_pushes_no_key_out() -> None:
    receiver, sender = _codec(), _codec()
    _decode(receiver, _encode(sender))
    kept = list(receiver._known)
    for _ in range(KEYS_KEPT + 1):
        with pytest.raises(ProtocolError):
            _decode(receiver, _encode(_codec(master=bytes(32))))
    assert list(receiver._known) == kept


def test_the_plugin_imports_light() -> None:
    code = "import sys, i2_codec_aesgcm.plugin; assert 'cryptography' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
