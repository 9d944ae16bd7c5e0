"""The TCP transport over real sockets: the common checks, and everyone who should not get in."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from i2_transport_tcp.client import TcpClient
from i2_transport_tcp.config import TcpConfig
from i2_transport_tcp.plugin import i2_transports
from i2_transport_tcp.server import TcpServer

from i2core.api import Channel, LinkError, Peer, PeerRefused, StreamHandler, TransportContext, UsageError
from i2core.testing.transport import check_client_transport, check_server_transport

CLIENT_SPEC, SERVER_SPEC = i2_transports()
MIRROR = Channel.MIRROR
DEFAULTS = TcpConfig()
ONE_PORT = {MIRROR: 0}
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@attrs.frozen
class Node:
    """A node with its files, and what its server said."""

    certificate: Path
    key: Path
    fingerprint: str
    said: list[str] = attrs.field(factory=list)

    def context(self, *trusted: Node, plaintext: bool = False) -> TransportContext:
        peers = {node.fingerprint: node.certificate.stem for node in trusted}
        return TransportContext(
            certificate=self.certificate, key=self.key, peers=peers, plaintext=plaintext, say=self.said.append
        )

    def peer(self, ports: dict[Channel, int], host: str = "127.0.0.1") -> Peer:
        return Peer("backup", host, ports, self.fingerprint)


def make_node(directory: Path, name: str, *, expired: bool = False, with_rsa: bool = False) -> Node:
    key = rsa.generate_private_key(65537, 2048) if with_rsa else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin, end = (NOW - 9 * DAY, NOW - 8 * DAY) if expired else (NOW - DAY, NOW + DAY)
    certificate = x509.CertificateBuilder(subject, subject, key.public_key(), 1, begin, end).sign(key, hashes.SHA256())
    files = directory / f"{name}.crt", directory / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Node(*files, "sha256:" + certificate.fingerprint(hashes.SHA256()).hex())


@pytest.fixture
def work(tmp_path: Path) -> Node:
    return make_node(tmp_path, "work")


@pytest.fixture
def backup(tmp_path: Path) -> Node:
    return make_node(tmp_path, "backup")


async def echo(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
    async for data in stream:
        await stream.send_all(data)


@asynccontextmanager
async def serving(
    context: TransportContext, handler: StreamHandler = echo, config: TcpConfig = DEFAULTS, host: str = "127.0.0.1"
) -> AsyncIterator[dict[Channel, int]]:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(TcpServer(config, context).serve, host, ONE_PORT, handler)
            nursery.cancel_scope.cancel()


async def talks(client: TcpClient, peer: Peer) -> bool:
    async with await client.connect(peer, MIRROR) as stream:
        await stream.send_all(b"hello")
        return await stream.receive_some(5) == b"hello"


async def drained(stream: trio.abc.Stream) -> bytes:
    """All that comes until the other side closes, in whatever way."""
    got = b""
    try:
        async for data in stream:
            got += data
    except trio.BrokenResourceError:
        pass
    return got


# ---------------------------------------------------------------------------------------------------- the contract


async def test_client_passes_the_check() -> None:
    await check_client_transport(CLIENT_SPEC, server=SERVER_SPEC)


async def test_server_passes_the_check() -> None:
    await check_server_transport(SERVER_SPEC, client=CLIENT_SPEC)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_every_way_to_name_this_host(work: Node, backup: Node, host: str) -> None:
    async with serving(backup.context(work), host=host) as ports:
        assert await talks(TcpClient(DEFAULTS, work.context()), backup.peer(ports, host))


async def test_a_name_is_tried_at_all_its_addresses(work: Node, backup: Node) -> None:
    """The first address refuses, the second is the server: as with a name that stands for ::1 and 127.0.0.1."""

    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host: object, port: object, *_: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("127.0.0.77", "127.0.0.1")]

        async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
            raise NotImplementedError

    async with serving(backup.context(work)) as ports:
        trio.socket.set_custom_hostname_resolver(Resolver())
        assert await talks(TcpClient(DEFAULTS, work.context()), backup.peer(ports, "backup.example"))
    async with serving(backup.context(plaintext=True)) as ports:
        trio.socket.set_custom_hostname_resolver(Resolver())
        client = TcpClient(DEFAULTS, work.context(plaintext=True))
        assert await talks(client, Peer("backup", "backup.example", ports, None))


async def test_plaintext_is_the_plain_socket_stream_with_its_options(backup: Node, work: Node) -> None:
    given: list[trio.abc.Stream] = []

    async def keep(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        given.append(stream)
        await echo(stream, channel, name)

    async with serving(backup.context(plaintext=True), keep) as ports:
        client = TcpClient(DEFAULTS, work.context(plaintext=True))
        async with await client.connect(Peer("b", "127.0.0.1", ports, None), MIRROR) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some(5) == b"hello"
            for end in (stream, given[0]):
                assert isinstance(end, trio.SocketStream)
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                # A backup node that reads nothing for minutes (a mass delete is held) is not a dead one.
                assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


# ------------------------------------------------------------------------------------------------------ who gets in


async def test_an_expired_certificate_is_fine_when_pinned(tmp_path: Path) -> None:
    """A pin is taken back by removing it. A date would only stop a backup that has worked for years, at night."""
    work, backup = make_node(tmp_path, "work", expired=True), make_node(tmp_path, "backup", expired=True)
    async with serving(backup.context(work)) as ports:
        assert await talks(TcpClient(DEFAULTS, work.context()), backup.peer(ports))


async def test_other_kinds_of_keys_are_fine_when_pinned(tmp_path: Path) -> None:
    work, backup = make_node(tmp_path, "work", with_rsa=True), make_node(tmp_path, "backup", with_rsa=True)
    async with serving(backup.context(work)) as ports:
        assert await talks(TcpClient(DEFAULTS, work.context()), backup.peer(ports))


async def test_a_pinned_certificate_without_its_key_does_not_get_in(work: Node, backup: Node, tmp_path: Path) -> None:
    """Certificates are public; what counts is the key."""
    thief = make_node(tmp_path, "thief")
    with pytest.raises(UsageError, match="certificate or key"):
        TcpClient(DEFAULTS, attrs.evolve(work, key=thief.key).context())


async def test_an_unknown_client_sees_only_a_closed_connection(work: Node, backup: Node) -> None:
    """By hand, over the ssl module: not even the welcome is sent to it."""
    naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    naked.check_hostname = False
    naked.verify_mode = ssl.CERT_NONE
    naked.load_cert_chain(work.certificate, work.key)
    async with serving(backup.context()) as ports:
        stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", ports[MIRROR]), naked)
        async with stream:
            await stream.do_handshake()
            assert await drained(stream) == b""
    assert len(backup.said) == 1
    assert "127.0.0.1" in backup.said[0]
    assert work.fingerprint in backup.said[0]


async def test_a_client_without_certificate_or_with_old_tls_does_not_get_in(work: Node, backup: Node) -> None:
    async with serving(backup.context(work)) as ports:
        for old in (False, True):
            naked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            naked.check_hostname = False
            naked.verify_mode = ssl.CERT_NONE
            if old:
                naked.load_cert_chain(work.certificate, work.key)
                naked.maximum_version = ssl.TLSVersion.TLSv1_2
            stream = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", ports[MIRROR]), naked)
            assert await drained(stream) == b""
            await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 70_000, bytes(1000)])
async def test_garbage_and_plaintext_at_the_tls_port(work: Node, backup: Node, said: bytes) -> None:
    async with serving(backup.context(work)) as ports:
        async with await trio.open_tcp_stream("127.0.0.1", ports[MIRROR]) as stream:
            with contextlib.suppress(trio.BrokenResourceError):  # closed before all was sent
                await stream.send_all(said)
            assert await drained(stream) == b""
        assert await talks(TcpClient(DEFAULTS, work.context()), backup.peer(ports))
    assert ["127.0.0.1" in line for line in backup.said] == [True]


async def test_a_tls_client_at_the_plaintext_port(work: Node, backup: Node) -> None:
    async def answer(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        await stream.send_all(b"hello, who are you?")
        await stream.receive_some()

    async def leave(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        await stream.receive_some()

    client = TcpClient(DEFAULTS, work.context())
    async with serving(backup.context(plaintext=True), answer) as ports:
        with pytest.raises(PeerRefused, match=r"no TLS 1\.3 there.*plaintext"):
            await client.connect(backup.peer(ports), MIRROR)
    async with serving(backup.context(plaintext=True), leave) as ports:
        with pytest.raises(LinkError, match="broke in the TLS handshake"):
            await client.connect(backup.peer(ports), MIRROR)


async def test_a_revoked_peer_is_named_whoever_else_was_refused_from_its_address(work: Node, backup: Node) -> None:
    context = attrs.evolve(backup.context(), revoked={work.fingerprint: "web1"})
    client = TcpClient(DEFAULTS, work.context())
    async with serving(context) as ports:
        for _ in range(2):
            async with await trio.open_tcp_stream("127.0.0.1", ports[MIRROR]) as stranger:
                await stranger.send_all(b"no TLS")
                await drained(stranger)
            with pytest.raises(PeerRefused, match="revoked there"):
                await client.connect(backup.peer(ports), MIRROR)
    assert "no TLS" in backup.said[0]
    assert backup.said[1:] == [
        f"connection from 127.0.0.1 refused: web1 was revoked here (certificate {work.fingerprint})"
    ]


async def test_a_node_without_certificate_needs_plaintext(backup: Node) -> None:
    nobody = TransportContext(certificate=None, key=None, peers={})
    with pytest.raises(UsageError, match="certificate"):
        TcpClient(DEFAULTS, nobody)
    with pytest.raises(UsageError, match="certificate"):
        TcpServer(DEFAULTS, nobody)
    client = TcpClient(DEFAULTS, attrs.evolve(nobody, plaintext=True))
    with pytest.raises(PeerRefused, match="no certificate to show"):
        await client.connect(backup.peer(ONE_PORT), MIRROR)


# ------------------------------------------------------------------------------------------------ nobody is held up


async def test_a_silent_client_goes_after_the_time_limit(work: Node, backup: Node) -> None:
    async with (
        serving(backup.context(work), config=TcpConfig(handshake_timeout_s=0.1)) as ports,
        await trio.open_tcp_stream("127.0.0.1", ports[MIRROR]) as silent,
    ):
        await silent.send_all(b"\x16\x03\x01\x02")  # the beginning of a hello that never goes on
        assert await drained(silent) == b""
    assert "0.1 s" in backup.said[0]


async def test_in_a_full_lobby_the_oldest_gives_way(work: Node, backup: Node) -> None:
    async with serving(backup.context(work), config=TcpConfig(handshakes=3)) as ports:
        silent = [await trio.open_tcp_stream("127.0.0.1", ports[MIRROR]) for _ in range(3)]
        client = TcpClient(DEFAULTS, work.context())
        assert await talks(client, backup.peer(ports))
        assert await drained(silent[0]) == b""
        for stream in silent[1:]:
            with trio.CancelScope() as scope:
                scope.cancel()
                await stream.receive_some()
            assert scope.cancelled_caught, "a connection was ended though there was room"
            await stream.aclose()
        await silent[0].aclose()


async def test_a_silent_server_is_given_up(work: Node, backup: Node) -> None:
    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, say_nothing, 0)
            ports = {MIRROR: listeners[0].socket.getsockname()[1]}
            client = TcpClient(TcpConfig(handshake_timeout_s=0.1), work.context())
            with pytest.raises(LinkError, match=r"no TLS answer within 0\.1 s"):
                await client.connect(backup.peer(ports), MIRROR)
            nursery.cancel_scope.cancel()


async def test_a_host_that_does_not_answer_is_given_up(work: Node, backup: Node) -> None:
    """A full backlog drops connections, as a host does that is switched off."""
    with trio.fail_after(20), socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filling in (first, second):
            filling.setblocking(False)
            filling.connect_ex(full.getsockname())
        ports = {MIRROR: full.getsockname()[1]}
        with pytest.raises(LinkError, match=r"no connection within 0\.1 s"):
            await TcpClient(TcpConfig(connect_timeout_s=0.1), work.context()).connect(backup.peer(ports), MIRROR)
        with pytest.raises(LinkError, match=r"no connection within 0\.1 s"):
            client = TcpClient(TcpConfig(connect_timeout_s=0.1), work.context(plaintext=True))
            await client.connect(Peer("backup", "127.0.0.1", ports, None), MIRROR)


async def test_an_unknown_name_is_a_link_error(work: Node, backup: Node) -> None:
    for host in ("no.such.host.invalid", "not a host", "a" * 300, "x\0y"):
        with pytest.raises(LinkError) as raised:
            await TcpClient(DEFAULTS, work.context()).connect(backup.peer({MIRROR: 9}, host), MIRROR)
        assert not isinstance(raised.value, PeerRefused)


# ---------------------------------------------------------------------------------------------------- ends and ports


async def test_a_cut_in_mid_stream_is_never_an_end(work: Node, backup: Node) -> None:
    seen: list[str] = []
    over = trio.Event()

    async def watch(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        try:
            while data := await stream.receive_some():
                seen.append(f"{len(data)} bytes")
            seen.append("end")
        except trio.BrokenResourceError:
            seen.append("cut")
        over.set()

    async with serving(backup.context(work), watch) as ports:
        stream = await TcpClient(DEFAULTS, work.context()).connect(backup.peer(ports), MIRROR)
        await stream.send_all(b"x" * 100)
        await trio.aclose_forcefully(stream)
        await over.wait()
    assert seen[-1] == "cut"


async def test_port_in_use_names_port_address_and_what_to_do(work: Node, backup: Node) -> None:
    async with serving(backup.context(work)) as ports:
        with pytest.raises(UsageError) as raised:
            await TcpServer(DEFAULTS, backup.context(work)).serve("127.0.0.1", ports, echo)
    assert f"127.0.0.1:{ports[MIRROR]}" in str(raised.value)
    assert "in use" in raised.value.cause
    assert "ss -ltnp" in raised.value.next_step


@pytest.mark.parametrize(("host", "why"), [("192.0.2.1", "no interface"), ("no.such.host.invalid", "cannot listen")])
async def test_addresses_that_are_not_here(work: Node, backup: Node, host: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        await TcpServer(DEFAULTS, backup.context(work)).serve(host, ONE_PORT, echo)


async def test_nothing_stays_open_when_the_second_port_is_taken(work: Node, backup: Node) -> None:
    async with serving(backup.context(work)) as taken:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            free = probe.getsockname()[1]
        both = {Channel.REPLICATION: free, MIRROR: taken[MIRROR]}
        with pytest.raises(UsageError, match=str(taken[MIRROR])):
            await TcpServer(DEFAULTS, backup.context(work)).serve("127.0.0.1", both, echo)
        with socket.socket() as again:
            again.bind(("127.0.0.1", free))
