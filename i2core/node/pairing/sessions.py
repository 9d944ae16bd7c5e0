"""Open connections by peer, so that revoking a peer closes them at once and not only refuses the next ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import trio

from i2core.api import PeerRefused
from i2core.node.pairing.peer_book import PeerRole

Who = tuple[PeerRole, str]


class Sessions:
    """Connections of peers to this node, and of this node to peers. For the trio thread only."""

    def __init__(self) -> None:
        self._scopes: dict[Who, set[trio.CancelScope]] = {}
        self._streams: dict[Who, WeakSet[trio.abc.Stream]] = {}

    @contextmanager
    def of(self, role: PeerRole, name: str) -> Iterator[None]:
        """The block is a session of that peer; `end` cancels it.

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
            raise PeerRefused(f"{name} is no longer trusted")

    def note(self, role: PeerRole, name: str, stream: trio.abc.Stream) -> None:
        """Registers a stream to that peer, as long as it is referenced."""
        self._streams.setdefault((role, name), WeakSet()).add(stream)

    async def end(self, role: PeerRole, name: str) -> int:
        """Ends all sessions of a peer, and closes all streams to it at once; returns their number."""
        scopes = tuple(self._scopes.get((role, name), ()))
        for scope in scopes:
            scope.cancel()
        streams = tuple(self._streams.pop((role, name), ()))
        for stream in streams:
            await trio.aclose_forcefully(stream)
        return len(scopes) + len(streams)
