"""The drivers of this plugin. OpenSSL is imported when a driver is opened, so that listing plugins stays fast."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_transport_tcp.config import TcpConfig
from i2core.api import ClientTransport, DriverKind, DriverSpec, ServerTransport, TransportContext, hookimpl


@asynccontextmanager
async def _open_client(config: TcpConfig, context: TransportContext) -> AsyncIterator[ClientTransport]:
    from i2_transport_tcp.client import TcpClient

    yield TcpClient(config, context)


@asynccontextmanager
async def _open_server(config: TcpConfig, context: TransportContext) -> AsyncIterator[ServerTransport]:
    from i2_transport_tcp.server import TcpServer

    yield TcpServer(config, context)


@hookimpl
def i2_transports() -> Iterable[DriverSpec]:
    """Both ends of the TCP transport."""
    return (
        DriverSpec(
            kind=DriverKind.CLIENT_TRANSPORT,
            name="tcp",
            summary="TCP with TLS 1.3, the backup node pinned by fingerprint",
            config=TcpConfig,
            open=_open_client,
        ),
        DriverSpec(
            kind=DriverKind.SERVER_TRANSPORT,
            name="tcp",
            summary="TCP with TLS 1.3, work nodes pinned by fingerprint",
            config=TcpConfig,
            open=_open_server,
        ),
    )
