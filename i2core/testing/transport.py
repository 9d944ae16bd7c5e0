"""`check_client_transport`, `check_server_transport`: the contracts of both ends of a transport. The twin is
`MemoryNet`.

One end can only be checked together with the other, so each check opens a pair: the given driver and its counterpart.
There are three nodes: a work node and a backup node that pin each other, and a stranger.
"""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from i2core.api import (
    DATA_CHANNELS,
    Channel,
    ClientTransport,
    DriverKind,
    DriverSpec,
    LinkError,
    Peer,
    PeerRefused,
    ServerTransport,
    StreamHandler,
    TransportContext,
    UsageError,
)
from i2core.config.options import structure_options
from i2core.registry import Registry

WITHIN_S = 30.0
"""How long one step of a check may take; a working driver needs milliseconds."""

_HERE = "127.0.0.1"
_ELSEWHERE = "192.0.2.1"  # RFC 5737: never a loopback address, and never in use
_ANY_PORTS = dict.fromkeys(DATA_CHANNELS, 0)
_BLOCK = bytes(range(256)) * 256


async def check_client_transport(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, server: DriverSpec | None = None
) -> None:
    """Checks the contract of a client transport, with `server` or the installed server of the same name.

    `options` as in a config file, for both ends; None takes ``spec.example``.

    Raises:
        AssertionError: the driver breaks the contract; the message says where.
        UsageError: the options do not fit, or there is no server of that name.
    """
    assert spec.kind is DriverKind.CLIENT_TRANSPORT, f"{spec.name} is a {spec.kind.value}, not a client transport"
    server = server or Registry.load().driver(DriverKind.SERVER_TRANSPORT, spec.name)
    duties = (
        _carries_bytes,
        _reports_a_missing_server,
        _refuses_an_unpinned_server,
        _reports_a_refusal,
        _reads_pins_in_any_case,
        _limits_plaintext_to_loopback,
    )
    await _check(spec, server, spec, options, duties)


async def check_server_transport(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, client: DriverSpec | None = None
) -> None:
    """Checks the contract of a server transport, with `client` or the installed client of the same name.

    `options` as in a config file, for both ends; None takes ``spec.example``.

    Raises:
        AssertionError: the driver breaks the contract; the message says where.
        UsageError: the options do not fit, or there is no client of that name.
    """
    assert spec.kind is DriverKind.SERVER_TRANSPORT, f"{spec.name} is a {spec.kind.value}, not a server transport"
    client = client or Registry.load().driver(DriverKind.CLIENT_TRANSPORT, spec.name)
    duties = (
        _reports_ports_and_peers,
        _refuses_strangers,
        _checks_trust_for_each_connection,
        _admits_guests_only_where_allowed,
        _closes_streams_that_the_handler_refuses,
        _survives_failing_handlers,
        _serves_all_at_once,
        _releases_its_ports,
        _reports_a_port_in_use,
        _listens_in_plaintext_on_loopback_only,
    )
    await _check(client, spec, spec, options, duties)


# ------------------------------------------------------------------------------------------------ the stage


@attrs.frozen(kw_only=True)
class _Node:
    """A node for which transports are opened."""

    name: str
    certificate: Path
    key: Path
    fingerprint: str

    @classmethod
    def make(cls, directory: Path, name: str) -> _Node:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        certificate = builder.sign(key, hashes.SHA256())
        files = directory / f"{name}.crt", directory / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].touch(mode=0o600)
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        digest = certificate.fingerprint(hashes.SHA256()).hex()
        return cls(name=name, certificate=files[0], key=files[1], fingerprint=f"sha256:{digest}")


class _Stage:
    """Both drivers, the nodes, and the server's log."""

    def __init__(self, client: DriverSpec, server: DriverSpec, configs: tuple[Any, Any], directory: Path) -> None:
        self._client, self._server = client, server
        self._client_config, self._server_config = configs
        self.work = _Node.make(directory, "work")
        self.backup = _Node.make(directory, "backup")
        self.stranger = _Node.make(directory, "stranger")
        self.said: list[str] = []
        self.pins: dict[str, str] = {}
        """The peers that the server trusts; may change while it runs."""

    def client(self, node: _Node, *, plaintext: bool = False) -> AbstractAsyncContextManager[ClientTransport]:
        """The client driver as `node` would open it."""
        context = TransportContext(certificate=node.certificate, key=node.key, peers={}, plaintext=plaintext)
        return self._client.open(self._client_config, context)

    def server(self, *, plaintext: bool = False, pin: str = "") -> AbstractAsyncContextManager[ServerTransport]:
        """The server driver as the backup node would open it, trusting the work node, with guests on the control
        channel."""
        self.pins = {pin or self.work.fingerprint: self.work.name}
        context = TransportContext(
            certificate=self.backup.certificate,
            key=self.backup.key,
            peers=self.pins,
            guest=lambda channel, fingerprint: channel is Channel.CONTROL,
            plaintext=plaintext,
            say=self.said.append,
        )
        return self._server.open(self._server_config, context)

    @asynccontextmanager
    async def serving(
        self,
        handler: StreamHandler,
        *,
        plaintext: bool = False,
        pin: str = "",
        channels: Sequence[Channel] = DATA_CHANNELS,
    ) -> AsyncIterator[dict[Channel, int]]:
        """Runs a server during the body; gives its ports."""
        async with self.server(plaintext=plaintext, pin=pin) as server, trio.open_nursery() as nursery:
            wanted = dict.fromkeys(channels, 0)
            ports: dict[Channel, int] = await nursery.start(server.serve, _HERE, wanted, handler)
            yield ports
            nursery.cancel_scope.cancel()

    def peer(self, ports: dict[Channel, int], *, host: str = _HERE, **changed: str | None) -> Peer:
        """The backup node as the work node knows it."""
        return Peer(self.backup.name, host, ports, changed.get("fingerprint", self.backup.fingerprint))


_Duty = Callable[[_Stage], Coroutine[Any, Any, None]]


async def _check(
    client: DriverSpec,
    server: DriverSpec,
    judged: DriverSpec,
    options: Mapping[str, Any] | None,
    duties: tuple[_Duty, ...],
) -> None:
    options = judged.example if options is None else options
    configs = structure_options(client, options), structure_options(server, options)
    with tempfile.TemporaryDirectory() as directory:
        stage = _Stage(client, server, configs, Path(directory))
        for duty in duties:
            stage.said.clear()
            try:
                with trio.fail_after(WITHIN_S):
                    await duty(stage)
            except Exception as error:
                raise AssertionError(f"{duty.__name__[1:].replace('_', ' ')}: {_first_words(error)}") from error


def _first_words(error: Exception) -> str:
    """The message of the first failure in an exception group."""
    if isinstance(error, ExceptionGroup):
        complaints = error.subgroup(AssertionError) or error
        return _first_words(complaints.exceptions[0])
    if isinstance(error, trio.TooSlowError):
        return f"not finished after {WITHIN_S:g} s"
    return str(error) if isinstance(error, AssertionError) else f"raised {error!r}"


@contextmanager
def _raises(wanted: type[Exception], when: str, *, but_not: type[Exception] | None = None) -> Iterator[None]:
    try:
        yield
    except wanted as error:
        if but_not and isinstance(error, but_not):
            raise AssertionError(f"{when}: raised {error!r}, which claims more than is known") from error
    except Exception as error:
        raise AssertionError(f"{when}: raised {error!r} instead of {wanted.__name__}") from error
    else:
        raise AssertionError(f"{when}: did not raise {wanted.__name__}")


async def _echo(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
    async for data in stream:
        await stream.send_all(data)


async def _receive(stream: trio.abc.Stream, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        data = await stream.receive_some(size - len(got))
        assert data, f"the stream ended after {len(got)} of {size} bytes"
        assert len(data) <= size - len(got), f"receive_some({size - len(got)}) gave {len(data)} bytes"
        got += data
    return bytes(got)


async def _says_back(stream: trio.abc.Stream, text: bytes) -> None:
    await stream.send_all(text)
    got = await _receive(stream, len(text))
    assert got == text, f"other bytes came back than were sent: {got[:40]!r}…"


# ------------------------------------------------------------------------------------------------ the client's duties


async def _carries_bytes(stage: _Stage) -> None:
    async with stage.serving(_echo) as ports, stage.client(stage.work) as client:
        assert isinstance(client, ClientTransport), f"open gave {type(client).__name__}, which is not a ClientTransport"
        stream = await client.connect(stage.peer(ports), Channel.MIRROR)
        async with stream, trio.open_nursery() as nursery:
            sent = (b"", b"x", bytearray(_BLOCK[:1000]), memoryview(_BLOCK)[7:60_000], _BLOCK * 64)

            async def send() -> None:
                for data in sent:
                    await stream.send_all(data)

            nursery.start_soon(send)
            wanted = b"".join(sent)
            got = await _receive(stream, len(wanted))
            assert got == wanted, "other bytes came back than were sent"
            # A cancelled receive loses no data.
            with trio.CancelScope() as given_up:
                given_up.cancel()
                await stream.receive_some(1)
            await _says_back(stream, b"after a cancelled receive")

    async def hang_up(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        await _receive(stream, 1)

    async with stage.serving(hang_up) as ports, stage.client(stage.work) as client:
        stream = await client.connect(stage.peer(ports), Channel.MIRROR)
        async with stream:
            await stream.send_all(b"x")
            assert await stream.receive_some(10) == b"", "a regular end by the server is not received as an end"


async def _reports_a_missing_server(stage: _Stage) -> None:
    async with stage.serving(_echo) as ports:
        pass
    async with stage.client(stage.work) as client:
        with _raises(LinkError, "no server listens", but_not=PeerRefused):
            await client.connect(stage.peer(ports), Channel.REPLICATION)


async def _refuses_an_unpinned_server(stage: _Stage) -> None:
    async with stage.serving(_echo) as ports, stage.client(stage.work) as client:
        with _raises(PeerRefused, "the server's certificate is not the pinned one"):
            await client.connect(stage.peer(ports, fingerprint=stage.stranger.fingerprint), Channel.MIRROR)
        with _raises(PeerRefused, "no fingerprint is pinned, and plaintext is not allowed"):
            await client.connect(stage.peer(ports, fingerprint=None), Channel.MIRROR)


async def _reports_a_refusal(stage: _Stage) -> None:
    async with stage.serving(_echo) as ports, stage.client(stage.stranger) as client:
        with _raises(PeerRefused, "the server does not trust the client"):
            await client.connect(stage.peer(ports), Channel.MIRROR)


async def _reads_pins_in_any_case(stage: _Stage) -> None:
    def shout(pin: str) -> str:
        return "sha256:" + pin.removeprefix("sha256:").upper()

    async with (
        stage.serving(_echo, pin=shout(stage.work.fingerprint)) as ports,
        stage.client(stage.work) as client,
        await client.connect(stage.peer(ports, fingerprint=shout(stage.backup.fingerprint)), Channel.MIRROR) as stream,
    ):
        await _says_back(stream, b"hello")


async def _limits_plaintext_to_loopback(stage: _Stage) -> None:
    async with stage.serving(_echo, plaintext=True) as ports, stage.client(stage.work, plaintext=True) as client:
        async with await client.connect(stage.peer(ports, fingerprint=None), Channel.MIRROR) as stream:
            await _says_back(stream, b"hello")
        with _raises(PeerRefused, f"plaintext to {_ELSEWHERE}"):
            await client.connect(stage.peer(ports, host=_ELSEWHERE, fingerprint=None), Channel.MIRROR)


# ------------------------------------------------------------------------------------------------ the server's duties


async def _reports_ports_and_peers(stage: _Stage) -> None:
    served: list[tuple[Channel, str | None]] = []

    async def note(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        served.append((channel, name))
        await _echo(stream, channel, name)

    for plaintext in (False, True):
        served.clear()
        async with (
            stage.serving(note, plaintext=plaintext) as ports,
            stage.client(stage.work, plaintext=True) as client,
        ):
            assert ports.keys() == _ANY_PORTS.keys(), f"ports reported for {list(ports)}"
            assert len(set(ports.values())) == 2, f"both channels share one port: {ports}"
            assert all(ports.values()), f"port 0 was reported instead of the one that the system chose: {ports}"
            peer = stage.peer(ports, fingerprint=None) if plaintext else stage.peer(ports)
            for channel in DATA_CHANNELS:
                async with await client.connect(peer, channel) as stream:
                    await _says_back(stream, b"hello")
        name = None if plaintext else stage.work.name
        assert served == [(channel, name) for channel in DATA_CHANNELS], f"the handler was called with {served}"


async def _refuses_strangers(stage: _Stage) -> None:
    names: list[str | None] = []

    async def note(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        names.append(name)
        await _echo(stream, channel, name)

    async with stage.serving(note) as ports:
        for _ in range(3):
            async with stage.client(stage.stranger) as client:
                with _raises(LinkError, "the server trusts a stranger"):
                    await client.connect(stage.peer(ports), Channel.MIRROR)
        async with (
            stage.client(stage.work) as client,
            await client.connect(stage.peer(ports), Channel.MIRROR) as stream,
        ):
            await _says_back(stream, b"hello")
    assert names == [stage.work.name], f"the handler was called for {names}"
    assert any(stage.stranger.fingerprint in line for line in stage.said), (
        f"the log does not name the refused client: {stage.said}"
    )


async def _checks_trust_for_each_connection(stage: _Stage) -> None:
    async with stage.serving(_echo) as ports, stage.client(stage.work) as client:
        for _ in range(2):
            async with await client.connect(stage.peer(ports), Channel.MIRROR) as stream:
                await _says_back(stream, b"hello")
            stage.pins.clear()
            with _raises(LinkError, "trust was taken back while the server ran"):
                await client.connect(stage.peer(ports), Channel.MIRROR)
            stage.pins[stage.work.fingerprint] = stage.work.name


async def _admits_guests_only_where_allowed(stage: _Stage) -> None:
    served: list[tuple[Channel, str | None]] = []

    async def note(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        served.append((channel, name))
        await _echo(stream, channel, name)

    async with stage.serving(note, channels=(Channel.MIRROR, Channel.CONTROL)) as ports:
        for node in (stage.stranger, stage.work):
            async with (
                stage.client(node) as client,
                await client.connect(stage.peer(ports), Channel.CONTROL) as stream,
            ):
                await _says_back(stream, b"hello")
        async with stage.client(stage.stranger) as client:
            with _raises(LinkError, "a guest of one channel is admitted on another"):
                await client.connect(stage.peer(ports), Channel.MIRROR)
    wanted = [(Channel.CONTROL, stage.stranger.fingerprint), (Channel.CONTROL, stage.work.name)]
    assert served == wanted, f"the handler was called with {served}"


async def _closes_streams_that_the_handler_refuses(stage: _Stage) -> None:
    async def refuse(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        raise PeerRefused("as the check wants it")

    async with (
        stage.serving(refuse) as ports,
        stage.client(stage.work) as client,
        await client.connect(stage.peer(ports), Channel.MIRROR) as stream,
    ):
        assert await stream.receive_some(10) == b"", "a refused peer receives data"
    assert any("as the check wants it" in line for line in stage.said), f"the log does not have the cause: {stage.said}"


async def _survives_failing_handlers(stage: _Stage) -> None:
    async def fail_at_one(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        async for data in stream:
            if data == b"fail":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.sleep_forever)
                    raise ValueError("as the check wants it")
            await stream.send_all(data)

    async with (
        stage.serving(fail_at_one) as ports,
        stage.client(stage.work) as client,
        await client.connect(stage.peer(ports), Channel.MIRROR) as steady,
    ):
        async with await client.connect(stage.peer(ports), Channel.MIRROR) as doomed:
            await doomed.send_all(b"fail")
            with _raises(trio.BrokenResourceError, "after the handler failed, the stream ended as a regular end"):
                await doomed.receive_some(10)
        await _says_back(steady, b"still here")
        async with await client.connect(stage.peer(ports), Channel.MIRROR) as later:
            await _says_back(later, b"hello")


async def _serves_all_at_once(stage: _Stage) -> None:
    count = 20
    together = trio.Event()
    present = 0

    async def wait_for_all(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        nonlocal present
        present += 1
        if present == count:
            together.set()
        await together.wait()
        await stream.send_all(b"all here")

    async with stage.serving(wait_for_all) as ports, stage.client(stage.work) as client:

        async def take_part(channel: Channel) -> None:
            async with await client.connect(stage.peer(ports), channel) as stream:
                assert await _receive(stream, 8) == b"all here"

        async with trio.open_nursery() as nursery:
            for turn in range(count):
                nursery.start_soon(take_part, DATA_CHANNELS[turn % 2])


async def _releases_its_ports(stage: _Stage) -> None:
    async with stage.server() as server, stage.client(stage.work) as client:
        ports = dict(_ANY_PORTS)
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                before, ports = ports, await nursery.start(server.serve, _HERE, ports, _echo)
                assert all(before[c] in (0, ports[c]) for c in ports), f"requested {before}, listens on {ports}"
                stream = await client.connect(stage.peer(ports), Channel.MIRROR)
                await _says_back(stream, b"hello")
                nursery.cancel_scope.cancel()
            await trio.aclose_forcefully(stream)
            with _raises(LinkError, "the server was cancelled"):
                await client.connect(stage.peer(ports), Channel.MIRROR)


async def _reports_a_port_in_use(stage: _Stage) -> None:
    async with stage.serving(_echo) as ports, stage.server() as second, trio.open_nursery() as nursery:
        with _raises(UsageError, "the port is in use"):
            await nursery.start(second.serve, _HERE, {Channel.MIRROR: ports[Channel.MIRROR]}, _echo)


async def _listens_in_plaintext_on_loopback_only(stage: _Stage) -> None:
    async with stage.server(plaintext=True) as server, trio.open_nursery() as nursery:
        with _raises(UsageError, "plaintext on all addresses"):
            await nursery.start(server.serve, "0.0.0.0", _ANY_PORTS, _echo)  # noqa: S104 (to be refused)
        nursery.cancel_scope.cancel()
