"""`TlsStream` alone, over streams in memory: what trio asks of every stream, and what TLS adds."""

from __future__ import annotations

import datetime
import functools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from i2_transport_tcp.tls import CHUNK_BYTES, TlsIdentity, TlsStream
from trio.testing import MockClock

Halves = tuple[trio.abc.Stream, trio.abc.Stream]


@functools.cache
def identity() -> TlsIdentity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    with tempfile.TemporaryDirectory() as directory:
        certificate, private = Path(directory, "crt"), Path(directory, "key")
        certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return TlsIdentity(certificate, private)


async def tls_over(halves: Halves) -> tuple[TlsStream, TlsStream]:
    near, far = identity().client(halves[0]), identity().server(halves[1])
    seen: list[str] = []

    async def begin() -> None:
        seen.append(await near.handshake())
        # OpenSSL's server ends its handshake with tickets that nobody asked for: with a first byte, they are read.
        assert await near.receive_some(1) == b"!"

    async def answer() -> None:
        seen.append(await far.handshake())
        await far.send_all(b"!")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(begin)
        nursery.start_soon(answer)
    assert seen == [identity().fingerprint] * 2
    return near, far


class Crumbs(trio.abc.Stream):
    """Gives what it receives in crumbs of random size."""

    def __init__(self, inner: trio.abc.Stream, seed: int) -> None:
        self._inner = inner
        self._dice = random.Random(seed)  # noqa: S311 (repeatable, not secret)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(self._dice.choice((1, 5, 21, 1000, 100_000)))

    async def aclose(self) -> None:
        await self._inner.aclose()


async def test_what_trio_asks_of_every_stream(autojump_clock: MockClock) -> None:
    async def over(make: Callable[[], Halves]) -> tuple[TlsStream, TlsStream]:
        return await tls_over(make())

    await trio.testing.check_half_closeable_stream(
        functools.partial(over, trio.testing.memory_stream_pair),
        functools.partial(over, trio.testing.lockstep_stream_pair),
    )


@pytest.mark.parametrize("seed", range(3))
async def test_any_sizes_through_crumbs(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    raw = trio.testing.memory_stream_pair()
    near, far = await tls_over((Crumbs(raw[0], seed), Crumbs(raw[1], seed + 100)))
    sizes = (0, 1, 16_384, 16_385, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 77)
    sent = [shape(dice.randbytes(size)) for size in sizes for shape in (bytes, bytearray, memoryview)]

    async def send() -> None:
        for data in sent:
            await near.send_all(data)
        await near.send_eof()

    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while data := await far.receive_some(dice.choice((1000, 20_000, CHUNK_BYTES, None))):
            got += data
    assert got == b"".join(sent)
    # The other direction is still open.
    await far.send_all(memoryview(b"abcdef").cast("B")[::1])
    assert await near.receive_some(3) == b"abc"
    assert await near.receive_some() == b"def"


async def test_nothing_but_ciphertext_crosses() -> None:
    raw = trio.testing.memory_stream_pair()
    near, far = await tls_over(raw)
    text = b"nobody else may read this" * 100
    await near.send_all(text)
    crossed = await raw[1].receive_some()
    assert b"nobody" not in crossed
    assert len(crossed) > len(text)
    await trio.aclose_forcefully(near)
    await trio.aclose_forcefully(far)


async def test_a_changed_byte_breaks_the_stream() -> None:
    near_raw, middle_near = trio.testing.memory_stream_pair()
    middle_far, far_raw = trio.testing.memory_stream_pair()
    flip = False

    async def relay(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        async for data in source:
            await sink.send_all(bytes([*data[:-1], data[-1] ^ 1]) if flip else data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, middle_near, middle_far)
        nursery.start_soon(relay, middle_far, middle_near)
        near, far = await tls_over((near_raw, far_raw))
        await near.send_all(b"good")
        assert await far.receive_some() == b"good"
        flip = True
        await near.send_all(b"bad")
        for _ in range(2):
            with pytest.raises(trio.BrokenResourceError):
                await far.receive_some()
        nursery.cancel_scope.cancel()


async def test_a_missing_end_is_a_cut_and_what_came_before_is_not_lost() -> None:
    raw = trio.testing.memory_stream_pair()
    near, far = await tls_over(raw)
    await near.send_all(b"last words")
    await raw[0].aclose()
    assert await far.receive_some() == b"last words"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError, match="cut"):
            await far.receive_some()


async def test_after_a_cancelled_send_the_peer_sees_a_cut(autojump_clock: MockClock) -> None:
    raw = trio.testing.lockstep_stream_pair()
    near, far = await tls_over(raw)
    with trio.move_on_after(1) as scope:
        await near.send_all(bytes(100_000))
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError, match="middle"):
        await near.send_all(b"more")
    await near.aclose()
    with pytest.raises(trio.BrokenResourceError):
        while await far.receive_some():
            pass


async def test_closing_does_not_wait_for_a_peer_that_does_not_read(autojump_clock: MockClock) -> None:
    near, far = await tls_over(trio.testing.lockstep_stream_pair())
    before = trio.current_time()
    await near.aclose()
    assert trio.current_time() - before <= 1.0
    with pytest.raises(trio.ClosedResourceError):
        await near.receive_some()
    await trio.aclose_forcefully(far)


async def test_receive_some_wants_room() -> None:
    near, _ = await tls_over(trio.testing.memory_stream_pair())
    with pytest.raises(ValueError, match="at least 1"):
        await near.receive_some(0)
