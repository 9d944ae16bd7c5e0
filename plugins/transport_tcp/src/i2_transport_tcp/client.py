"""The work node's end: connects to a backup node, and returns a stream only if its fingerprint is the pinned one."""

from __future__ import annotations

import trio

from i2_transport_tcp.address import host_port, is_loopback, resolve, tune
from i2_transport_tcp.config import TcpConfig
from i2_transport_tcp.tls import WELCOME, TlsIdentity, TlsStream
from i2core.api import Channel, ClientTransport, LinkError, Peer, PeerRefused, TransportContext, UsageError


class TcpClient(ClientTransport):
    """Driver ``tcp`` of the kind client transport. A peer with a fingerprint is always reached by TLS."""

    def __init__(self, config: TcpConfig, context: TransportContext) -> None:
        """
        Raises:
            UsageError: certificate or key cannot be used, or there is none and plaintext is not allowed.
        """
        self._config = config
        self._plaintext = context.plaintext
        self._identity: TlsIdentity | None = None
        if context.certificate is not None and context.key is not None:
            self._identity = TlsIdentity(context.certificate, context.key)
        elif not context.plaintext:
            raise UsageError("the tcp transport needs the node's certificate and key")

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        """See `ClientTransport.connect`."""
        port = peer.ports[channel]
        at = f"{peer.name} ({host_port(peer.host, port)})"
        if peer.fingerprint is None:
            return await self._connect_plaintext(peer.host, port, at)
        if self._identity is None:
            raise PeerRefused(
                "it is pinned by fingerprint, but this node has no certificate to show",
                obj=at,
                next_step="give the node its state_dir, where the identity is kept",
            )
        return await self._connect_tls(self._identity, peer.host, port, peer.fingerprint.lower(), at)

    async def _connect_plaintext(self, host: str, port: int, at: str) -> trio.SocketStream:
        if not self._plaintext:
            raise PeerRefused(
                "no fingerprint is pinned for it",
                obj=at,
                next_step="add the fingerprint that `i2 node id` prints there",
            )
        with trio.move_on_after(self._config.connect_timeout_s):
            try:
                addresses = await resolve(host, port)
            except (OSError, ValueError) as error:
                raise _unreachable(at, error) from error
            if outside := [address for address in addresses if not is_loopback(address)]:
                raise PeerRefused(
                    f"plaintext is possible only to loopback addresses, and {outside[0]} is not one",
                    obj=at,
                    next_step="pin the peer's fingerprint to use TLS",
                )
            # Connects to the addresses that were checked, not to the name: it might resolve to others a second time.
            failure: OSError | None = None
            for address in addresses:
                try:
                    stream = await trio.open_tcp_stream(address, port)
                except OSError as error:
                    failure = error
                else:
                    tune(stream)
                    return stream
            if failure is not None:
                raise _unreachable(at, failure) from failure
        raise LinkError(f"no connection within {self._config.connect_timeout_s:g} s", obj=at)

    async def _connect_tls(self, own: TlsIdentity, host: str, port: int, pinned: str, at: str) -> trio.abc.Stream:
        socket_stream: trio.SocketStream | None = None
        with trio.move_on_after(self._config.connect_timeout_s):
            try:
                socket_stream = await trio.open_tcp_stream(host, port)
            except (OSError, ValueError) as error:
                raise _unreachable(at, error) from error
        if socket_stream is None:
            raise LinkError(f"no connection within {self._config.connect_timeout_s:g} s", obj=at)
        tune(socket_stream)
        stream = own.client(socket_stream)
        try:
            with trio.fail_after(self._config.handshake_timeout_s):
                await _prove(stream, own.fingerprint, pinned)
        except BaseException as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error, trio.TooSlowError):
                limit = f"{self._config.handshake_timeout_s:g} s"
                raise LinkError(f"no TLS answer within {limit}", obj=at, next_step="check address and port") from error
            if isinstance(error, LinkError):
                error.obj = at
            raise
        return stream


async def _prove(stream: TlsStream, own: str, pinned: str) -> None:
    try:
        found = await stream.handshake()
        if found != pinned:
            raise PeerRefused(
                f"its certificate is {found}, pinned is {pinned}",
                next_step="if the node was set up again, pin the fingerprint that `i2 node id` prints there",
            )
        welcome = await stream.receive_some(1)
    except trio.BrokenResourceError as error:
        raise LinkError(f"the connection broke in the TLS handshake: {error}") from error
    if not welcome:
        raise PeerRefused(
            f"it does not trust this node, {own}",
            next_step="add this fingerprint to its [[backup.peer]]; if this node was revoked there, join again with a "
            "new token",
        )
    if welcome != WELCOME:
        raise PeerRefused("it speaks another protocol", next_step="check address and port")


def _unreachable(at: str, error: OSError | ValueError) -> LinkError:
    # trio puts the errors of the single addresses into the cause of its own error.
    group = error.__cause__
    causes = group.exceptions if isinstance(group, BaseExceptionGroup) else (error,)
    words = dict.fromkeys((e.strerror if isinstance(e, OSError) else None) or str(e) for e in causes)
    return LinkError(
        f"no connection: {', '.join(words)}", obj=at, next_step="check that the node runs, its address and its firewall"
    )
