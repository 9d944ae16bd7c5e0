"""From key file or passphrase to the master key: what is taken, what is refused, and that both nodes agree."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path

import pytest
from i2_codec_aesgcm.config import AesGcmConfig
from i2_codec_aesgcm.plugin import i2_codecs
from i2_codec_aesgcm.secret import master_key

from i2core.api import Code, CodecContext, UsageError

_KEY = bytes(range(200, 232))
_WORDS = "öffne dich"


def _file(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        _KEY,
        _KEY.hex().encode(),
        _KEY.hex().upper().encode() + b"\n",
        base64.b64encode(_KEY),
        base64.b64encode(_KEY) + b"\r\n",
    ],
)
def test_a_key_file_in_each_form(tmp_path: Path, content: bytes) -> None:
    key_file = _file(tmp_path / "key", content)
    assert master_key(AesGcmConfig(key_file=key_file), "data1") == _KEY


@pytest.mark.parametrize(
    "content",
    [b"", _KEY[:31], _KEY + b"\n", _KEY.hex().encode()[:63] + b"g", _KEY.hex().encode() + b"00", b"=" * 44, b"x" * 43],
)
def test_a_key_file_without_a_key(tmp_path: Path, content: bytes) -> None:
    key_file = _file(tmp_path / "key", content)
    with pytest.raises(UsageError, match="neither 32 raw bytes") as caught:
        master_key(AesGcmConfig(key_file=key_file), "data1")
    assert (caught.value.code, caught.value.obj) == (Code.ENCRYPT, key_file)


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o601, 0o777])
def test_a_secret_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = _file(tmp_path / "secret", _KEY, mode)
    for config in (AesGcmConfig(key_file=path), AesGcmConfig(passphrase_file=path)):
        with pytest.raises(UsageError, match=f"mode {mode:04o}.*chmod 600"):
            master_key(config, "data1")


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(UsageError, match=r"not a regular file|cannot be read: Is a directory"):
            master_key(AesGcmConfig(key_file=str(path)), "data1")


def test_missing_relative_and_endless_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        master_key(AesGcmConfig(key_file=str(tmp_path / "none")), "data1")
    with pytest.raises(UsageError, match="absolute"):
        master_key(AesGcmConfig(key_file="key"), "data1")
    with pytest.raises(UsageError, match="longer than 4096"):
        master_key(AesGcmConfig(passphrase_file=_file(tmp_path / "long", bytes(5000))), "data1")


def test_a_passphrase_gives_both_nodes_the_key_that_the_readme_describes(tmp_path: Path) -> None:
    salt = hashlib.sha256(b"i2core aesgcm passphrase salt v1\0data1").digest()
    key = hashlib.scrypt(_WORDS.encode(), salt=salt, n=65536, r=8, p=2, maxmem=80 << 20, dklen=32)
    assert master_key(AesGcmConfig(passphrase=_WORDS), "data1") == key
    path = _file(tmp_path / "passphrase", f"{_WORDS}\n".encode())
    assert master_key(AesGcmConfig(passphrase_file=path), "data1") == key
    assert master_key(AesGcmConfig(passphrase=_WORDS), "data2") != key


def test_an_empty_passphrase_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no passphrase"):
        master_key(AesGcmConfig(passphrase_file=_file(tmp_path / "empty", b"\n")), "data1")


@pytest.mark.parametrize(
    "options",
    [{}, {"key_file": "/a", "passphrase": "b"}, {"passphrase": ""}, {"key_file": "/a\0"}],
)
def test_exactly_one_secret_is_given(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"exactly one|empty"):
        AesGcmConfig(**options)


def test_a_passphrase_does_not_show_in_logs() -> None:
    assert _WORDS not in repr(AesGcmConfig(passphrase=_WORDS))


async def test_two_nodes_understand_each_other(tmp_path: Path) -> None:
    (spec,) = i2_codecs()
    raw = AesGcmConfig(key_file=_file(tmp_path / "raw", _KEY))
    digits = AesGcmConfig(key_file=_file(tmp_path / "digits", _KEY.hex().encode()))
    context = CodecContext(rule="data1")
    async with spec.open(raw, context) as work, spec.open(digits, context) as backup:
        message = work.encode(b"bytes", seq=1, header=b"")
        assert backup.decode(message, seq=1, header=b"", limit=5) == b"bytes"
