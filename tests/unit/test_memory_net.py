"""The in-memory network passes the checks of real transports, and can be cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from i2core.api import (
    Channel,
    ClientTransport,
    DriverSpec,
    LinkError,
    NoConfig,
    Peer,
    PeerRefused,
    ServerTransport,
    StreamHandler,
    TransportContext,
)
from i2core.testing.memory_net import MemoryNet
from i2core.testing.transport import check_client_transport, check_server_transport

_PLAINTEXT = TransportContext(certificate=None, key=None, peers={}, plaintext=True)


async def test_client_passes_the_check() -> None:
    net = MemoryNet()
    await check_client_transport(net.client_spec(), server=net.server_spec())


async def test_server_passes_the_check() -> None:
    net = MemoryNet()
    await check_server_transport(net.server_spec(), client=net.client_spec())


def _spoiled(
    spec: DriverSpec,
    context: Callable[[TransportContext], TransportContext] = lambda context: context,
    driver: Callable[[Any], Any] = lambda driver: driver,
) -> DriverSpec:
    """The driver with another context, or wrapped."""

    @asynccontextmanager
    async def open_spoiled(config: NoConfig, given: TransportContext) -> AsyncIterator[Any]:
        async with spec.open(config, context(given)) as opened:
            yield driver(opened)

    return attrs.evolve(spec, open=open_spoiled)


@attrs.frozen
class _Careless(ClientTransport):
    """Accepts any server instead of checking the pinned fingerprint."""

    inner: ClientTransport

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        try:
            return await self.inner.connect(peer, channel)
        except PeerRefused:
            return trio.testing.memory_stream_pair()[0]


@attrs.frozen
class _Hasty(ServerTransport):
    """Reports the requested ports instead of the real ones."""

    inner: ServerTransport

    async def serve(
        self,
        host: str,
        ports: dict[Channel, int],
        handler: StreamHandler,
        *,
        task_status: trio.TaskStatus[dict[Channel, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        task_status.started(ports)
        await self.inner.serve(host, ports, handler)


async def test_the_checks_detect_broken_transports() -> None:
    net = MemoryNet()
    client, server = net.client_spec(), net.server_spec()
    with pytest.raises(AssertionError, match="refuses an unpinned server: the server's certificate is not the pinned"):
        await check_client_transport(_spoiled(client, driver=_Careless), server=server)
    with pytest.raises(AssertionError, match=r"port 0 was reported|share one port"):
        await check_server_transport(_spoiled(server, driver=_Hasty), client=client)
    with pytest.raises(AssertionError, match="the log does not name the refused client"):
        await check_server_transport(
            _spoiled(server, lambda context: attrs.evolve(context, say=lambda line: None)), client=client
        )
    with pytest.raises(AssertionError, match="plaintext"):
        await check_server_transport(
            _spoiled(server, lambda context: attrs.evolve(context, plaintext=False)), client=client
        )


async def test_cut_breaks_both_ends_and_down_refuses_new_connections() -> None:
    net = MemoryNet()
    broke = trio.Event()

    async def serve_until_broken(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        try:
            await stream.receive_some()
        except trio.BrokenResourceError:
            broke.set()

    async with (
        net.server_spec().open(NoConfig(), _PLAINTEXT) as server,
        net.client_spec().open(NoConfig(), _PLAINTEXT) as client,
        trio.open_nursery() as nursery,
    ):
        ports = await nursery.start(server.serve, "127.0.0.1", {Channel.MIRROR: 0}, serve_until_broken)
        peer = Peer("backup", "127.0.0.1", ports, None)
        stream = await client.connect(peer, Channel.MIRROR)
        await trio.testing.wait_all_tasks_blocked()
        net.cut()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
        await broke.wait()
        net.up = False
        with pytest.raises(LinkError):
            await client.connect(peer, Channel.MIRROR)
        net.up = True
        await (await client.connect(peer, Channel.MIRROR)).aclose()
        nursery.cancel_scope.cancel()


async def test_closed_connections_are_removed() -> None:
    net = MemoryNet()

    async def leave(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
        return None

    async with (
        net.server_spec().open(NoConfig(), _PLAINTEXT) as server,
        net.client_spec().open(NoConfig(), _PLAINTEXT) as client,
        trio.open_nursery() as nursery,
    ):
        ports = await nursery.start(server.serve, "localhost", {Channel.MIRROR: 0}, leave)
        async with await client.connect(Peer("backup", "::1", ports, None), Channel.MIRROR) as stream:
            assert await stream.receive_some() == b""
        assert not net._cables
        nursery.cancel_scope.cancel()
