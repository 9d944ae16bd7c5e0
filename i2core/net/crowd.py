"""Bounds the number of unauthenticated connections, and drops those of the address that has most.

Anyone who can reach a port can open connections, which must not affect trusted peers. When all places are taken, a new
visitor still gets one: the address with most visitors loses its oldest. So a flood from one address only displaces
itself.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio


def neighbourhood(address: str) -> str:
    """The addresses that count as one visitor: an IPv4 address, or the /64 of an IPv6 address, which one host may own
    as a whole."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


class Crowd:
    """Holds at most `capacity` visitors. For the trio thread only."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._here: dict[trio.CancelScope, str] = {}

    @contextmanager
    def stay(self, address: str, seconds: float) -> Iterator[trio.CancelScope]:
        """The block is cancelled after so many seconds, or when another visitor needs its place."""
        group = neighbourhood(address)
        if len(self._here) >= self._capacity:
            leaving = self._to_drop(group)
            del self._here[leaving]
            leaving.cancel()
        with trio.move_on_after(seconds) as scope:
            self._here[scope] = group
            try:
                yield scope
            finally:
                self._here.pop(scope, None)

    def _to_drop(self, comes: str) -> trio.CancelScope:
        counts = Counter(self._here.values())
        counts[comes] += 1
        most = max(counts.values())
        return next(
            (scope for scope, group in self._here.items() if counts[group] == most),
            next(iter(self._here)),
        )
