"""Addresses and socket options that client and server share."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

import trio

_OPTIONS = (
    # Keepalive tells a dead peer from an idle one: an idle link is probed after 10 s, then every 5 s.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
    # No TCP_USER_TIMEOUT: it would also end a link whose peer is alive but reads nothing for a while, because its disk
    # is slow or because it holds a mass delete. The session detects a peer that dies while data is in flight.
)
# SO_SNDBUF and SO_RCVBUF are not set: that would turn off the kernel's autotuning, which grows the buffers to several
# MiB if the link's delay needs it.


def tune(stream: trio.SocketStream) -> None:
    """Sets the options of a long-lived bulk connection. TCP_NODELAY is already on: trio sets it."""
    for level, option, value in _OPTIONS:
        # A peer that is gone already shows at the first read; a refused option must not fail here.
        with contextlib.suppress(OSError):
            stream.setsockopt(level, option, value)


def is_loopback(address: str) -> bool:
    """True for a numeric address that no other host can reach: 127.0.0.0/8, ::1 and 127.0.0.0/8 mapped into IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def host_port(host: str, port: int) -> str:
    """``host:port`` for messages, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def resolve(host: str, port: int) -> list[str]:
    """The numeric addresses of `host`, each once, in the resolver's order.

    Raises:
        OSError: the name has no address.
        ValueError: it is not a valid host name.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
