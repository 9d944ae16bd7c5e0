"""The zstd codec: its contract, what it saves, and frames made to do harm."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
import tracemalloc
from types import SimpleNamespace

import pytest
import pyzstd
from hypothesis import given
from hypothesis import strategies as st
from i2_codec_zstd.codec import ZstdCodec
from i2_codec_zstd.config import Level
from i2_codec_zstd.plugin import i2_codecs
from pyzstd import CParameter

from i2core.api import Code, ProtocolError, StopRule
from i2core.testing import check_codec

_TEXT = b"".join(b"2026-01-01T00:00:%02d host app: request %d done\n" % (n % 60, n * 7919) for n in range(5_000))
_NOISE = random.Random(1).randbytes(100_000)  # noqa: S311 (repeatable, not secret)


def _decode(message: bytes, limit: int = 1 << 20) -> bytes:
    return bytes(ZstdCodec().decode(message, seq=1, header=b"", limit=limit))


@pytest.mark.parametrize("options", [None, *({"level": level.value} for level in Level)])
async def test_it_keeps_its_contract(options: dict[str, str] | None) -> None:
    (spec,) = i2_codecs()
    await check_codec(spec, options)


def test_higher_levels_save_more() -> None:
    source = inspect.getsource(subprocess).encode()
    low, medium, high = (len(ZstdCodec(level).encode(source, seq=1, header=b"")) for level in Level)
    assert high < medium < low < len(source) / 3


def test_each_level_reads_the_others() -> None:
    for level in Level:
        assert _decode(bytes(ZstdCodec(level).encode(_TEXT, seq=1, header=b""))) == _TEXT


@pytest.mark.parametrize("payload", [b"", b"a", _NOISE])
def test_what_does_not_shrink_grows_by_one_byte(payload: bytes) -> None:
    message = bytes(ZstdCodec().encode(payload, seq=1, header=b""))
    assert message == b"\0" + payload
    assert _decode(message, len(payload)) == payload


@given(st.binary(max_size=5_000), st.integers(1, 50))
def test_any_payload_comes_back(part: bytes, times: int) -> None:
    payload = part * times
    assert _decode(bytes(ZstdCodec().encode(payload, seq=1, header=b"")), len(payload)) == payload


@given(st.binary(max_size=200))
def test_hostile_bytes_are_refused_or_within_the_limit(tail: bytes) -> None:
    for message in (tail, b"\1" + tail, b"\1\x28\xb5\x2f\xfd" + tail):
        try:
            assert len(_decode(message, 100)) <= 100
        except ProtocolError:
            continue


@pytest.mark.parametrize("error", [pyzstd.ZstdError("no"), MemoryError()])
def test_data_that_cannot_be_compressed_stops_the_rule(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        FLUSH_FRAME = 2

        def compress(self, data: bytes, mode: int) -> bytes:
            raise error

    codec = ZstdCodec()
    monkeypatch.setattr(codec, "_local", SimpleNamespace(compressor=Refusing()))
    with pytest.raises(StopRule) as caught:
        codec.encode(_TEXT, seq=1, header=b"")
    assert caught.value.code is Code.COMPRESS


def test_a_changed_frame_is_noticed() -> None:
    message = bytearray(ZstdCodec().encode(_TEXT, seq=1, header=b""))
    for at in range(1, len(message), 97):
        message[at] ^= 4
        with pytest.raises(ProtocolError) as caught:
            _decode(bytes(message))
        assert caught.value.code is Code.DECOMPRESS
        message[at] ^= 4


def test_a_frame_that_hides_its_size_is_refused() -> None:
    frame = pyzstd.compress(_TEXT, {CParameter.contentSizeFlag: 0})
    with pytest.raises(ProtocolError, match="frame of unknown bytes"):
        _decode(b"\1" + frame)


@pytest.mark.parametrize("tail", [b"x", pyzstd.compress(b"second"), b"\x50\x2a\x4d\x18\4\0\0\0skip"])
def test_bytes_behind_the_frame_are_refused(tail: bytes) -> None:
    with pytest.raises(ProtocolError, match="followed by other bytes"):
        _decode(b"\1" + pyzstd.compress(_TEXT) + tail)


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    """The header of an honest frame of 200 KB, changed to claim a window of 128 MiB."""
    options: dict[int, int] = {CParameter.contentSizeFlag: 1, CParameter.windowLog: 12, CParameter.compressionLevel: 1}
    frame = bytearray(pyzstd.compress(_NOISE * 2, options))
    assert not frame[4] & 0x20, "a frame of one segment has no window byte"
    frame[5] = (27 - 10) << 3
    with pytest.raises(ProtocolError, match="damaged zstd frame"):
        _decode(b"\1" + bytes(frame))


def test_a_bomb_costs_no_more_memory_than_its_own_size() -> None:
    bomb = b"\1" + pyzstd.compress(bytes(100 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="where 1000 are allowed"):
            _decode(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < len(bomb) + 100_000
    finally:
        tracemalloc.stop()


def test_the_plugin_imports_light() -> None:
    code = "import sys, i2_codec_zstd.plugin; assert 'pyzstd' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
