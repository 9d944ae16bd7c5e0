"""`MemoryNet`: a network without sockets, for tests of code that uses a transport; the twin of every real transport.

Its transports have the same rules for pins and plaintext as real ones, but prove nothing: a node's certificate file is
trusted. Tests can take the network down, and cut connections.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from i2core.api import (
    Channel,
    ClientTransport,
    DriverKind,
    DriverSpec,
    LinkError,
    NoConfig,
    Peer,
    PeerRefused,
    ServerTransport,
    StreamHandler,
    TransportContext,
    UsageError,
)

_FIRST_PORT = 50_000


class MemoryNet:
    """A network within one host. Streams have unlimited buffers and no delay::

    net = MemoryNet()
    async with net.server_spec().open(NoConfig(), context) as server: ...
    net.cut()         # every stream breaks, on both ends
    net.up = False    # and nobody can connect
    """

    def __init__(self) -> None:
        self.up = True
        """False: `connect` raises LinkError. Existing streams continue; see `cut`."""
        self._listening: dict[int, _Listener] = {}
        self._cables: set[_Cable] = set()

    def cut(self) -> None:
        """Breaks every stream; data in flight are lost."""
        for cable in tuple(self._cables):
            cable.cut()

    def client_spec(self, name: str = "memory") -> DriverSpec:
        """The driver that connects over this network."""

        @asynccontextmanager
        async def open_client(config: NoConfig, context: TransportContext) -> AsyncIterator[ClientTransport]:
            yield _MemoryClient(self, context)

        return DriverSpec(
            kind=DriverKind.CLIENT_TRANSPORT, name=name, summary="connects in memory, for tests", open=open_client
        )

    def server_spec(self, name: str = "memory") -> DriverSpec:
        """The driver that listens on this network."""

        @asynccontextmanager
        async def open_server(config: NoConfig, context: TransportContext) -> AsyncIterator[ServerTransport]:
            yield _MemoryServer(self, context)

        return DriverSpec(
            kind=DriverKind.SERVER_TRANSPORT, name=name, summary="listens in memory, for tests", open=open_server
        )

    def _listen(self, host: str, port: int, listener: _Listener) -> int:
        if not port:
            port = next(free for free in range(_FIRST_PORT, 1 << 16) if free not in self._listening)
        if port in self._listening:
            raise UsageError("the port is in use", obj=f"{host}:{port}", next_step="choose another port")
        self._listening[port] = listener
        return port

    def _lay_cable(self) -> tuple[_End, _End]:
        cable = _Cable(self)
        self._cables.add(cable)
        near, far = memory_stream_pair()
        cable.ends = (_End(cable, near), _End(cable, far))
        return cable.ends

    def _remove(self, cable: _Cable) -> None:
        self._cables.discard(cable)


class _Cable:
    """The state that both ends of a connection share."""

    def __init__(self, net: MemoryNet) -> None:
        self._net = net
        self.is_cut = False
        self.ends: tuple[_End, ...] = ()

    def cut(self) -> None:
        self.is_cut = True
        for end in self.ends:
            end.wake()
        self._net._remove(self)

    def release(self) -> None:
        """Removes the connection when both ends are closed."""
        if all(end.closed for end in self.ends):
            self._net._remove(self)


_Pair = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class _End(trio.abc.HalfCloseableStream):
    """One end of a connection: a memory stream of trio that can also be cut."""

    def __init__(self, cable: _Cable, inner: _Pair) -> None:
        self.cable = cable
        self.closed = False
        self._inner = inner

    def wake(self) -> None:
        """Makes the other end check whether the connection was cut."""
        self._inner.send_stream.close()

    def _check(self) -> None:
        if self.cable.is_cut and not self.closed:
            raise trio.BrokenResourceError("the connection was cut")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._check()
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        self._check()
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        self._check()
        data = await self._inner.receive_some(max_bytes)
        self._check()
        return data

    async def send_eof(self) -> None:
        self._check()
        await self._inner.send_eof()

    async def aclose(self) -> None:
        self.closed = True
        self.cable.release()
        await self._inner.aclose()


@attrs.frozen(eq=False)
class _Listener:
    """An open port: who listens there, whom it trusts, and who serves its streams."""

    channel: Channel
    handler: StreamHandler
    context: TransportContext
    fingerprint: str | None
    """None: plaintext."""
    nursery: trio.Nursery

    def admit(self, fingerprint: str | None) -> str | None:
        """The name of the client with this fingerprint; None in plaintext.

        Raises:
            PeerRefused: the client is not trusted here.
        """
        if fingerprint is None:
            return None
        for pin, name in self.context.peers.items():
            if pin.lower() == fingerprint:
                return name
        if self.context.guest(self.channel, fingerprint):
            return fingerprint
        self.context.say(f"connection refused: its certificate {fingerprint} is not pinned here")
        raise PeerRefused("the server does not trust this node")

    async def serve(self, stream: _End, name: str | None) -> None:
        """Runs the handler. If it fails, this stream is cut, and no other."""
        try:
            await self.handler(stream, self.channel, name)
            await stream.aclose()
        except PeerRefused as error:
            self.context.say(f"connection refused: {error.cause}")
            await stream.aclose()
        except Exception as error:
            self.context.say(f"{name}: stream ended by {error!r}")
        except BaseExceptionGroup as group:
            failures, rest = group.split(Exception)
            if failures is not None:
                self.context.say(f"{name}: stream ended by {failures!r}")
            if rest is not None:
                raise rest from None
        finally:
            if not stream.closed:
                stream.cable.cut()
                await trio.aclose_forcefully(stream)


class _MemoryServer(ServerTransport):
    def __init__(self, net: MemoryNet, context: TransportContext) -> None:
        self._net = net
        self._context = context

    async def serve(
        self,
        host: str,
        ports: dict[Channel, int],
        handler: StreamHandler,
        *,
        task_status: trio.TaskStatus[dict[Channel, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        context = self._context
        if context.plaintext and not _is_loopback(host):
            raise UsageError("plaintext is allowed on loopback addresses only", obj=host)
        fingerprint = None if context.plaintext else _own_fingerprint(context)
        bound: dict[Channel, int] = {}
        refusal: UsageError | None = None
        async with trio.open_nursery() as nursery:
            try:
                for channel, port in ports.items():
                    listener = _Listener(channel, handler, context, fingerprint, nursery)
                    bound[channel] = self._net._listen(host, port, listener)
                task_status.started(bound)
                await trio.sleep_forever()
            except UsageError as error:
                refusal = error
            finally:
                for port in bound.values():
                    del self._net._listening[port]
        if refusal is not None:
            raise refusal


class _MemoryClient(ClientTransport):
    def __init__(self, net: MemoryNet, context: TransportContext) -> None:
        self._net = net
        self._context = context

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        own: str | None = None
        if peer.fingerprint is not None:
            own = _own_fingerprint(self._context)
        elif not self._context.plaintext:
            raise PeerRefused("no fingerprint is pinned for it", obj=peer.name)
        elif not _is_loopback(peer.host):
            raise PeerRefused("plaintext is allowed to loopback addresses only", obj=peer.name)
        await trio.lowlevel.checkpoint()
        listener = self._net._listening.get(peer.ports[channel])
        if listener is None or not self._net.up:
            raise LinkError("no connection", obj=peer.name)
        if (listener.fingerprint is None) != (peer.fingerprint is None):
            raise LinkError("one side uses plaintext, the other does not", obj=peer.name)
        if peer.fingerprint is not None and listener.fingerprint != peer.fingerprint.lower():
            raise PeerRefused("its certificate is not the pinned one", obj=peer.name)
        name = listener.admit(own)
        near, far = self._net._lay_cable()
        listener.nursery.start_soon(listener.serve, far, name)
        return near


def _own_fingerprint(context: TransportContext) -> str:
    if context.certificate is None:
        raise UsageError("this node has no certificate")
    der = ssl.PEM_cert_to_DER_cert(context.certificate.read_text())
    return "sha256:" + hashlib.sha256(der).hexdigest()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
