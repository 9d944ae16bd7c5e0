"""Checks that the ports of a config can be bound, before anything is changed on disk.

Binding without listening takes no connection from another program. If a port is taken between this check and the
node's own listen, the transport reports it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import NamedTuple

from i2core.config.lines import KeyPath
from i2core.config.model import NodeConfig
from i2core.config.table import Report
from i2core.config.words import Words
from i2core.node.daemon.control_port import control_place
from i2core.node.daemon.lock import is_locked


class _Wanted(NamedTuple):
    host: str
    port: int
    host_key: KeyPath
    port_key: KeyPath


def check_ports(config: NodeConfig, report: Report) -> None:
    """Reports each port that this node needs and cannot bind.

    Skipped while a daemon holds the state directory: it uses the ports, and the lock reports it.
    """
    if is_locked(config.state_dir):
        return
    reported: set[KeyPath] = set()  # both data ports have the same address
    for wanted in _wanted(config):
        number = _bind(wanted.host, wanted.port)
        if number is not None:
            key, message, allowed = _mistake(wanted, number)
            if key not in reported:
                report.add(key, message, allowed)
            reported.add(key)


def _wanted(config: NodeConfig) -> Iterator[_Wanted]:
    role = config.backup
    if role is not None:
        listen: KeyPath = ("backup", "listen")
        yield _Wanted(role.listen, role.mirror_port, listen, ("backup", "mirror_port"))
        yield _Wanted(role.listen, role.replication_port, listen, ("backup", "replication_port"))
        if role.recovery_port and not role.plaintext:
            yield _Wanted(role.listen, role.recovery_port, listen, ("backup", "recovery_port"))
    place = control_place(config)
    if place is not None and place.wanted:
        yield _Wanted(place.host, place.port, ("node", "control_listen"), ("node", "control_port"))


def _bind(host: str, port: int) -> int | None:
    """The error number of binding that address; None: it can be bound."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return None  # no such host name: the transport reports it
    numbers = []
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return error.errno
            numbers.append(error.errno)
    # A name like localhost may also resolve to ::1 on a host without IPv6: one address is enough.
    return errno.EADDRNOTAVAIL if len(numbers) == len(found) and errno.EADDRNOTAVAIL in numbers else None


def _mistake(wanted: _Wanted, number: int) -> tuple[KeyPath, Words, Words]:
    port = wanted.port
    if number == errno.EADDRINUSE:
        return (
            wanted.port_key,
            Words(f"port {port} is in use", f"端口 {port} 已被占用"),
            Words(
                f"a free port (`ss -ltnp sport = :{port}` shows the program)",
                f"空闲端口（`ss -ltnp sport = :{port}` 可查出占用的程序）",
            ),
        )
    if number == errno.EACCES:
        return (
            wanted.port_key,
            Words(f"port {port} may not be bound by this user", f"当前用户不能绑定端口 {port}"),
            Words("from 1024 up, or run as root", "1024 及以上，或以 root 运行"),
        )
    return (
        wanted.host_key,
        Words(f"no interface of this host has the address '{wanted.host}'", f"本机没有地址为 '{wanted.host}' 的接口"),
        Words("an address of this host, or 0.0.0.0", "本机的地址，或 0.0.0.0"),
    )
