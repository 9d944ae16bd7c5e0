"""The backup node's end: listens, and passes on the streams of peers whose certificate is pinned."""

from __future__ import annotations

import errno
from functools import partial

import trio

from i2_transport_tcp.address import host_port, is_loopback, resolve, tune
from i2_transport_tcp.config import TcpConfig
from i2_transport_tcp.lobby import RefusalLog
from i2_transport_tcp.tls import WELCOME, TlsIdentity, TlsStream
from i2core.api import Channel, Crowd, PeerRefused, ServerTransport, StreamHandler, TransportContext, UsageError

_UNAVAILABLE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class TcpServer(ServerTransport):
    """Driver ``tcp`` of the kind server transport."""

    def __init__(self, config: TcpConfig, context: TransportContext) -> None:
        """
        Raises:
            UsageError: certificate or key cannot be used, or there is none and plaintext is not allowed.
        """
        self._peers = context.peers
        self._revoked = context.revoked
        self._guest = context.guest
        self._say = context.say
        self._lobby = Crowd(config.handshakes)
        self._refusals = RefusalLog(context.say)
        self._stay_s = config.handshake_timeout_s
        self._identity: TlsIdentity | None = None
        """None: this server speaks plaintext, only on loopback addresses."""
        if not context.plaintext:
            if context.certificate is None or context.key is None:
                raise UsageError("the tcp transport needs the node's certificate and key")
            self._identity = TlsIdentity(context.certificate, context.key)

    async def serve(
        self,
        host: str,
        ports: dict[Channel, int],
        handler: StreamHandler,
        *,
        task_status: trio.TaskStatus[dict[Channel, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See `ServerTransport.serve`. Listens on every address of `host`, with one port for each channel."""
        addresses = await self._addresses(host)
        listeners: dict[Channel, list[trio.SocketListener]] = {}
        try:
            for channel, port in ports.items():
                listeners[channel] = await _listen(host, addresses, port)
            async with trio.open_nursery() as nursery:
                for channel, opened in listeners.items():
                    serve_one = partial(self._serve_one, channel, handler)
                    await nursery.start(trio.serve_listeners, serve_one, opened)
                task_status.started({channel: _port(opened[0]) for channel, opened in listeners.items()})
        finally:
            for opened in listeners.values():
                for listener in opened:
                    listener.socket.close()

    async def _addresses(self, host: str) -> list[str]:
        try:
            addresses = await resolve(host, 0)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot listen there: {error}", obj=host, next_step="correct `listen` in [backup]"
            ) from error
        outside = [address for address in addresses if not is_loopback(address)]
        if self._identity is None and outside:
            raise UsageError(
                f"plaintext is possible only on loopback addresses, and {outside[0]} is not one",
                obj=host,
                next_step='set listen = "127.0.0.1", or remove `plaintext`',
            )
        return addresses

    async def _serve_one(self, channel: Channel, handler: StreamHandler, accepted: trio.SocketStream) -> None:
        tune(accepted)
        stream: trio.abc.Stream = accepted
        name: str | None = None
        address = _peer_address(accepted)
        try:
            if self._identity is not None:
                admitted = await self._admit(self._identity, channel, accepted, address)
                if admitted is None:
                    return
                stream, name = admitted
            await handler(stream, channel, name)
            await stream.aclose()
        except PeerRefused as error:
            self._refusals.refused(address, error.cause)
            # The normal end of a refused connection.
            await stream.aclose()
        except Exception as error:
            self._log_failure(name, channel, error)
        except BaseExceptionGroup as group:
            # A handler with a nursery may bring its own failures and serve's cancellation in one group.
            failures, rest = group.split(Exception)
            if failures is not None:
                self._log_failure(name, channel, failures)
            if rest is not None:
                raise rest from None
        finally:
            # After a failure the peer must see a broken connection, not a clean end; after aclose this does nothing.
            await trio.aclose_forcefully(stream)

    async def _admit(
        self, own: TlsIdentity, channel: Channel, accepted: trio.SocketStream, address: str
    ) -> tuple[TlsStream, str] | None:
        """The stream and the name of its peer; None for a refused peer, whose connection is closed."""
        stream = own.server(accepted)
        stream.peer_address = address
        known = ""
        why = f"it did not send a certificate within {self._stay_s:g} s, or was dropped in favour of others"
        try:
            with self._lobby.stay(address, self._stay_s):
                try:
                    found = await stream.handshake()
                    name = self._peer_name(channel, found)
                    if name is not None:
                        await stream.send_all(WELCOME)
                        return stream, name
                    why = f"its certificate {found} is not pinned here"
                    if known := self._revoked_name(found):
                        why = f"{known} was revoked here (certificate {found})"
                except PeerRefused as error:
                    why = error.cause
                except trio.BrokenResourceError as error:
                    why = f"it broke off in the handshake: {error}"
            self._refusals.refused(address, why, known=known)
            # After a handshake this is TLS's clean end, which tells the peer that it was refused, not that the link
            # broke.
            await stream.aclose()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return None

    def _peer_name(self, channel: Channel, found: str) -> str | None:
        """The name of the peer with that fingerprint, or the fingerprint of a guest."""
        # Looked up each time, because the trusted peers change while the node runs.
        name = next((name for pin, name in self._peers.items() if pin.lower() == found), None)
        return found if name is None and self._guest(channel, found) else name

    def _revoked_name(self, found: str) -> str:
        """The name of the revoked peer with that fingerprint; empty if there is none."""
        return next((name for pin, name in self._revoked.items() if pin.lower() == found), "")

    def _log_failure(self, name: str | None, channel: Channel, error: Exception) -> None:
        self._say(f"{name or 'plaintext peer'}: {channel.value} stream ended by {type(error).__name__}: {error}")


async def _listen(host: str, addresses: list[str], port: int) -> list[trio.SocketListener]:
    """Listeners on all of the addresses that this host has, all on one port."""
    opened: list[trio.SocketListener] = []
    try:
        for address in addresses:
            try:
                opened += await trio.open_tcp_listeners(port, host=address)
            except OSError as error:
                # A name like localhost may also resolve to ::1 on a host without IPv6; one address is enough.
                if error.errno not in _UNAVAILABLE or (address == addresses[-1] and not opened):
                    raise
            else:
                port = _port(opened[0])
    except BaseException as error:
        for listener in opened:
            listener.socket.close()
        if isinstance(error, OSError):
            raise _cannot_bind(host, port, error) from error
        raise
    return opened


def _cannot_bind(host: str, port: int, error: OSError) -> UsageError:
    match error.errno:
        case errno.EADDRINUSE:
            cause = f"port {port} is in use"
            step = f"`ss -ltnp sport = :{port}` shows the program; stop it, or configure another port"
        case errno.EACCES:
            cause, step = f"port {port} may not be bound", "run as root, or configure a port from 1024 up"
        case errno.EADDRNOTAVAIL:
            cause, step = "no interface of this host has that address", "correct `listen` in [backup]"
        case _:
            cause, step = f"cannot listen: {error.strerror or error}", "correct `listen` and the ports in [backup]"
    return UsageError(cause, obj=host_port(host, port), next_step=step)


def _port(listener: trio.SocketListener) -> int:
    bound: int = listener.socket.getsockname()[1]
    return bound


def _peer_address(stream: trio.SocketStream) -> str:
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return "an address that is gone"
    return str(peer[0])
