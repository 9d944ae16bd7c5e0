"""`check_codec`: the contract of every codec; and `XorCodec`, which needs no library.

A decoder gets its input from the network. So most of the check is about input that no encoder made: damage, limits, and
several threads.
"""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
import xxhash

from i2core.api import Buffer, Codec, CodecContext, DriverKind, DriverSpec, NoConfig, ProtocolError
from i2core.config.options import structure_options
from i2core.drivers.chain import CodecChain

_HEADER, _OTHER_HEADER = b"header of the frame", b"header of another frame"
_SEQ = 7
_THREADS = 4
_BOMB_BYTES = 32 << 20
_SLACK_BYTES = 2 << 20
"""Memory that decoding may need in addition to its input and the limit: small tables and windows."""


class XorCodec(Codec):
    """Inverts every bit, and adds a checksum of payload, seq and header: the in-memory twin of codecs that
    authenticate. It protects nothing."""

    _TABLE = bytes(255 - value for value in range(256))

    @staticmethod
    def _sum(payload: bytes, seq: int, header: bytes) -> bytes:
        state = xxhash.xxh3_128(seq.to_bytes(8, "big"))
        state.update(len(header).to_bytes(8, "big") + header)
        state.update(payload)
        return state.digest()

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        payload = bytes(data)
        return self._sum(payload, seq, header) + payload.translate(self._TABLE)

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        if not 16 <= len(data) <= limit + 16:
            raise ProtocolError(f"xor payload has {len(data)} bytes, {limit} are allowed")
        payload = bytes(memoryview(data)[16:]).translate(self._TABLE)
        if self._sum(payload, seq, header) != bytes(data[:16]):
            raise ProtocolError("xor payload is damaged, or belongs to another frame")
        return payload


@asynccontextmanager
async def _open_xor(config: NoConfig, context: CodecContext) -> AsyncIterator[Codec]:
    yield XorCodec()


XOR = DriverSpec(kind=DriverKind.CODEC, name="xor", summary="inverts every bit, for tests", open=_open_xor)
"""The driver of `XorCodec`."""


async def check_codec(spec: DriverSpec, options: Mapping[str, Any] | None = None) -> None:
    """Checks the contract of a codec. `options` as in a config file; None takes ``spec.example``.

    Two instances are opened, as on two nodes: what one encodes the other must decode.

    Raises:
        AssertionError: the codec breaks the contract; the message says where.
        UsageError: the options do not fit the driver.
    """
    config = structure_options(spec, spec.example if options is None else options)
    context = CodecContext(rule="check")
    async with spec.open(config, context) as sender, spec.open(config, context) as receiver:
        for codec in (sender, receiver):
            assert isinstance(codec, Codec), f"open gave {type(codec).__name__}, which is not a Codec"
        for step in (_inverse, _bounded, _hardened, _authentic, _threads):
            await trio.to_thread.run_sync(step, sender, receiver)


def _dice(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 (repeatable, not secret)


def _payloads() -> Iterator[tuple[str, Buffer]]:
    """Payloads by name: empty, small, shrinking, not shrinking, in each kind of buffer."""
    noise = _dice(1).randbytes(300_000)
    text = b"a line of a log file that repeats itself, nearly: " * 6_000
    yield "empty", b""
    yield "one byte", b"\0"
    yield "text", text
    yield "noise", noise
    yield "zeros", bytes(1 << 20)
    yield "bytearray", bytearray(text[:4_097])
    yield "slice of a view", memoryview(noise)[13:70_001]


def _encode(codec: Codec, payload: Buffer, what: str, seq: int = _SEQ) -> bytes:
    before = bytes(payload)
    encoded = bytes(codec.encode(payload, seq=seq, header=_HEADER))
    assert bytes(payload) == before, f"{what}: encode changed its input"
    most = len(payload) + CodecChain.STAGE_OVERHEAD
    assert len(encoded) <= most, f"{what}: encode turned {len(payload)} bytes into {len(encoded)}, {most} are allowed"
    return encoded


def _decode(codec: Codec, encoded: Buffer, what: str, *, limit: int, seq: int = _SEQ) -> bytes:
    try:
        return bytes(codec.decode(encoded, seq=seq, header=_HEADER, limit=limit))
    except Exception as error:
        raise AssertionError(f"{what}: decode refused the output of encode: {error!r}") from error


def _inverse(sender: Codec, receiver: Codec) -> None:
    for what, payload in _payloads():
        encoded = _encode(sender, payload, what)
        for shape in (bytes, bytearray, memoryview):
            given = shape(encoded)
            decoded = _decode(receiver, given, f"{what} as {shape.__name__}", limit=len(payload))
            assert decoded == bytes(payload), (
                f"{what} as {shape.__name__}: decode returned other bytes than were encoded"
            )
            assert bytes(given) == encoded, f"{what}: decode changed its input"


def _refused(codec: Codec, encoded: Buffer, what: str, *, limit: int, seq: int = _SEQ, header: bytes = _HEADER) -> bool:
    """True when decode raises as it should; False when it returns bytes within the limit."""
    try:
        decoded = codec.decode(encoded, seq=seq, header=header, limit=limit)
    except ProtocolError:
        return True
    except Exception as error:
        raise AssertionError(f"{what}: decode raised {error!r} instead of ProtocolError") from error
    assert len(decoded) <= limit, f"{what}: decode returned {len(decoded)} bytes, {limit} are allowed"
    return False


def _bounded(sender: Codec, receiver: Codec) -> None:
    for what, payload in _payloads():
        if len(payload):
            encoded = _encode(sender, payload, what)
            within = _refused(receiver, encoded, f"{what}, limit one byte too small", limit=len(payload) - 1)
            assert within, f"{what}: decode truncated the payload instead of refusing it"
    bomb = _encode(sender, bytes(_BOMB_BYTES), "32 MiB of zeros")
    tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        assert _refused(receiver, bomb, "32 MiB of zeros, limit 1000", limit=1000), (
            "32 MiB passed a limit of 1000 bytes"
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not tracing:
            tracemalloc.stop()
    allowed = len(bomb) + _SLACK_BYTES
    assert peak - before <= allowed, f"decode with limit 1000 took {peak - before} bytes of memory for {len(bomb)}"


def _damaged(encoded: bytes) -> Iterator[tuple[str, bytes]]:
    """The message with a single bit changed, truncated, or extended."""
    places = sorted({*range(min(64, len(encoded))), len(encoded) // 2, *range(max(0, len(encoded) - 20), len(encoded))})
    for at in places:
        changed = bytearray(encoded)
        changed[at] ^= 1 << at % 8
        yield f"bit {at % 8} of byte {at} changed", bytes(changed)
    for length in sorted({0, 1, len(encoded) // 2, len(encoded) - 1}):
        yield f"cut to {length} bytes", encoded[:length]
    yield "one byte more", encoded + b"\0"
    yield "twice", encoded * 2


def _hardened(sender: Codec, receiver: Codec) -> None:
    for what, payload in _payloads():
        if len(payload):
            for how, message in _damaged(_encode(sender, payload, what)):
                _refused(receiver, message, f"{what}, {how}", limit=len(payload))
    source = _dice(2)
    for length in (1, 2, 15, 40, 41, 1000):
        for _ in range(50):
            noise = source.randbytes(length)
            _refused(receiver, noise, f"noise {noise[:32].hex()}…", limit=100)


def _authentic(sender: Codec, receiver: Codec) -> None:
    """A codec that binds the seq or the header authenticates. Then it must bind both, and detect all damage."""
    for what, payload in _payloads():
        limit = len(payload)
        encoded = _encode(sender, payload, what)
        seq_bound = _refused(receiver, encoded, f"{what}, other seq", limit=limit, seq=_SEQ + 1)
        header_bound = _refused(receiver, encoded, f"{what}, other header", limit=limit, header=_OTHER_HEADER)
        assert seq_bound == header_bound, f"{what}: of seq and header only {'seq' if seq_bound else 'header'} is bound"
        if seq_bound:
            for how, message in _damaged(encoded):
                assert _refused(receiver, message, f"{what}, {how}", limit=limit), f"{what}, {how}: not detected"


def _threads(sender: Codec, receiver: Codec) -> None:
    """Several threads at once on both instances, each with payloads and seqs of its own."""
    start = threading.Barrier(_THREADS)

    def work(number: int) -> None:
        source = _dice(number)
        start.wait()
        for turn in range(50):
            payload = source.randbytes(2_000) + bytes([number]) * source.randrange(20_000)
            seq = number * 1_000 + turn
            encoded = _encode(sender, payload, f"thread {number}", seq)
            decoded = _decode(receiver, encoded, f"thread {number}, turn {turn}", limit=len(payload), seq=seq)
            assert decoded == payload, f"thread {number}, turn {turn}: decode returned other bytes than were encoded"

    _run_together([partial(work, number) for number in range(_THREADS)])


def _run_together(jobs: Sequence[Callable[[], None]]) -> None:
    """Runs each job in a thread of its own, and raises the first error."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise AssertionError(f"in several threads at once: {error!r}") from error
