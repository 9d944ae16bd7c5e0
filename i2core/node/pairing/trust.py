"""The peers that a running node trusts. They change at run time: by enrolment, by revocation, by an edit of the
file."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from i2core.api import Channel, ClientTransport, Code, Peer, PeerRefused, StreamHandler
from i2core.config.model import NodeConfig
from i2core.config.words import bilingual
from i2core.node.pairing.peer_book import Book, PeerBook, PeerRole
from i2core.node.pairing.peers import KnownPeer, Standing, known_peers, pinned
from i2core.node.pairing.sessions import Sessions


@attrs.frozen
class Change:
    """The difference after a refresh: peers as (role, name), in the order of the book."""

    gained: tuple[tuple[PeerRole, str], ...]
    lost: tuple[tuple[PeerRole, str], ...]
    """Includes a peer with a new certificate, which is also gained."""


class Trust:
    """Config and peer book combined, for the transports and for the control port."""

    def __init__(self, config: NodeConfig, book: PeerBook, say: Callable[[Code | None, str], None]) -> None:
        """
        Raises:
            UsageError: the book is damaged, or others may write it.
        """
        self._config = config
        self._file = book
        self._say = say
        self.sessions = Sessions()
        self.callers: dict[str, str] = {}
        """Fingerprint → name of the peers whose rules are received (`TransportContext.peers`); changed in place."""
        self.controllers: dict[str, str] = {}
        """Fingerprint → fingerprint of all peers that may use the control port. Fingerprints instead of names:
        otherwise a work node with the name of a console would be mistaken for it."""
        self.revoked: dict[str, str] = {}
        """Fingerprint → name of the revoked peers; changed in place."""
        self._trusted: dict[tuple[PeerRole, str], KnownPeer] = {}
        self._pinned = pinned(config)
        self._take(book.read())

    def named(self, role: PeerRole, name: str) -> KnownPeer | None:
        """The trusted peer of that name."""
        return self._trusted.get((role, name))

    def pinned(self, role: PeerRole, name: str) -> str | None:
        """The fingerprint that the config pins for that name, trusted or not."""
        return self._pinned.get((role, name))

    def holder(self, role: PeerRole, fingerprint: str) -> KnownPeer | None:
        """The trusted peer with that certificate."""
        return next(
            (one for one in self._trusted.values() if one.role is role and one.fingerprint == fingerprint), None
        )

    async def refresh(self) -> Change:
        """Rereads the book, and ends the sessions of peers that are no longer trusted.

        Raises:
            UsageError: the book is damaged, or others may write it; trust is unchanged.
        """
        change = self._take(self._file.read())
        for role, name in change.lost:
            ended = await self.sessions.end(role, name)
            self._say(Code.PEER_REFUSED, f"{name} is no longer trusted as {role.value}; {ended} connections ended")
        for role, name in change.gained:
            self._say(None, f"{name} is trusted now as {role.value}")
        return change

    def _take(self, book: Book) -> Change:
        before = self._trusted
        known = known_peers(self._config, book)
        self._trusted = {
            (peer.role, peer.name): peer
            for peer in known
            if peer.role is not None and peer.standing is Standing.TRUSTED
        }
        for peer in known:
            if peer.standing is Standing.OVERRULED:
                self._say(
                    Code.PEER_REFUSED,
                    f"{peer.name} was enrolled with {peer.fingerprint}, but the config pins another fingerprint: "
                    "the config takes precedence",
                )
        pins = [(peer.role, peer.fingerprint, peer.name) for peer in self._trusted.values() if peer.fingerprint]
        self.callers.clear()
        self.callers.update((pin, name) for role, pin, name in pins if role is PeerRole.WORK)
        self.controllers.clear()
        self.controllers.update((pin, pin) for role, pin, _ in pins if role is not PeerRole.BACKUP)
        self.revoked.clear()
        self.revoked.update(
            (peer.fingerprint, peer.name) for peer in known if peer.standing is Standing.REVOKED and peer.fingerprint
        )
        same = {who for who, peer in self._trusted.items() if _pin(before.get(who)) == peer.fingerprint}
        return Change(
            gained=tuple(who for who in self._trusted if who not in same),
            lost=tuple(who for who in before if who not in same),
        )

    # ------------------------------------------------------------------------------------------ for the roles

    def guarded(self, handler: StreamHandler) -> StreamHandler:
        """`handler` for work nodes: ended when its peer is no longer trusted."""

        async def handle(stream: trio.abc.Stream, channel: Channel, name: str | None) -> None:
            if name is None:  # plaintext: the peer has no identity, and cannot be revoked
                await handler(stream, channel, name)
                return
            with self.sessions.of(PeerRole.WORK, name):
                # The peer may have been revoked since its handshake.
                if self.named(PeerRole.WORK, name) is None:
                    raise PeerRefused(f"{name} is no longer trusted")
                await handler(stream, channel, name)

        return handle


def _pin(peer: KnownPeer | None) -> str | None:
    return peer.fingerprint if peer is not None else None


class TrustedTransport(ClientTransport):
    """Connects to backup nodes by the current trust: peers enrolled since the rule started are accepted, revoked ones
    are not. The fingerprint in `Peer` is ignored."""

    def __init__(self, inner: ClientTransport, trust: Trust) -> None:
        self._inner = inner
        self._trust = trust

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        """See `ClientTransport.connect`."""
        known = self._trust.named(PeerRole.BACKUP, peer.name)
        if known is None:
            raise PeerRefused(
                bilingual("this node is not paired with it", "本节点尚未与其配对"),
                obj=peer.name,
                next_step=bilingual(
                    "make a token there with i2 node token, and use it here with i2 node join",
                    "请在对端用 i2 node token 生成令牌，再在本机用 i2 node join 加入",
                ),
            )
        stream = await self._inner.connect(peer._replace(fingerprint=known.fingerprint), channel)
        if _pin(self._trust.named(PeerRole.BACKUP, peer.name)) != known.fingerprint:
            await trio.aclose_forcefully(stream)
            raise PeerRefused(bilingual("it is no longer trusted", "已不再受信任"), obj=peer.name)
        self._trust.sessions.note(PeerRole.BACKUP, peer.name, stream)
        return stream
