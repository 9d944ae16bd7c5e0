"""The in-memory network passes the checks of real transports, and can be cut."""

from __future__ import annotations

import pytest
import trio

from i2core.api import Channel, LinkError, NoConfig, Peer, TransportContext
from i2core.testing.memory_net import MemoryNet
from i2core.testing.transport import check_client_transport, check_server_transport

_PLAINTEXT = TransportContext(certificate=None, key=None, peers={}, plaintext=True)


async def test_client_passes_the_check() -> None:
    net = MemoryNet()
    await check_client_transport(net.client_spec(), server=net.server_spec())


async def test_server_passes_the_check() -> None:
    net = MemoryNet()
    await check_server_transport(net.server_spec(), client=net.client_spec())


async def test_cut_breaks_both_ends_and_down_keeps_everybody_out() -> None:
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


async def test_closed_connections_are_forgotten() -> None:
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
