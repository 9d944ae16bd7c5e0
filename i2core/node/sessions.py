"""Connections under way, by peer: so that who is trusted no more is gone at once, and not after the next reconnect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import trio

from i2core.api import PeerRefused
from i2core.node.peer_book import PeerRole

Who = tuple[PeerRole, str]


class Sessions:
    """What peers have open here, and what this node has open at peers. From the trio thread alone."""

    def __init__(self) -> None:
        self._scopes: dict[Who, set[trio.CancelScope]] = {}
        self._streams: dict[Who, WeakSet[trio.abc.Stream]] = {}

    @contextmanager
    def of(self, role: PeerRole, name: str) -> Iterator[None]:
        """What runs inside is a session of that peer.

        Raises:
            PeerRefused: `end` was called for the peer.
        """
        who = (role, name)
        with trio.CancelScope() as scope:
            self._scopes.setdefault(who, set()).add(scope)
            try:
                yield
            finally:
                left = self._scopes[who]
                left.discard(scope)
                if not left:
                    del self._scopes[who]
        if scope.cancelled_caught:
            raise PeerRefused(f"{name} is not trusted any more")

    def note(self, role: PeerRole, name: str, stream: trio.abc.Stream) -> None:
        """Remembers a stream to that peer, for as long as somebody holds it."""
        self._streams.setdefault((role, name), WeakSet()).add(stream)

    async def end(self, role: PeerRole, name: str) -> int:
        """Ends all of a peer's sessions, and closes all streams to it without ado; how many there were."""
        scopes = tuple(self._scopes.get((role, name), ()))
        for scope in scopes:
            scope.cancel()
        streams = tuple(self._streams.pop((role, name), ()))
        for stream in streams:
            await trio.aclose_forcefully(stream)
        return len(scopes) + len(streams)
