"""Who is trusted, as what: the config's peers and the enrolled ones, less the revoked. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator

import attrs

from i2core.api import DATA_CHANNELS, Peer, UsageError
from i2core.config.model import NodeConfig, PeerEntry
from i2core.node.peer_book import Book, PeerRole
from i2core.node.speech import said


class Standing(enum.Enum):
    """How a peer stands with this node."""

    TRUSTED = "trusted"
    UNPAIRED = "unpaired"
    """The config names it without a fingerprint, and it was not enrolled yet."""
    OVERRULED = "overruled"
    """Enrolled, while the config pins another fingerprint for that name: the config wins."""
    REVOKED = "revoked"


@attrs.frozen(kw_only=True)
class KnownPeer:
    """One line of `i2 node peers`."""

    name: str
    role: PeerRole | None
    """None for a revoked one that nothing names any more."""
    fingerprint: str | None
    standing: Standing
    source: str
    """``"config"`` or ``"enrolled"``."""
    since: str | None
    """ISO 8601, UTC: enrolled or revoked then; None: since it stands in the config."""
    entry: PeerEntry | None = None
    """The config's, for address and ports."""


def known_peers(config: NodeConfig, book: Book) -> list[KnownPeer]:
    """Everyone that config or book name, each once for each role."""
    revoked = {one.fingerprint: one for one in book.revoked}
    pins = pinned(config)
    found: list[KnownPeer] = []
    for role, entry, plaintext in _entries(config):
        pin, source, since = entry.fingerprint, "config", None
        if pin is None:
            for one in book.enrolled:
                if (one.role, one.name) == (role, entry.name):
                    pin, source, since = one.fingerprint, "enrolled", one.since
        standing = Standing.UNPAIRED if pin is None and not plaintext else Standing.TRUSTED
        if pin in revoked:
            standing, since = Standing.REVOKED, revoked[pin].since
        found.append(
            KnownPeer(
                name=entry.name,
                role=role,
                fingerprint=pin,
                standing=standing,
                source=source,
                since=since,
                entry=entry,
            )
        )
    named = {(peer.role, peer.name) for peer in found if peer.source == "enrolled"}
    for one in book.enrolled:
        if (one.role, one.name) in named:
            continue
        # The config may name the same certificate, too: then there is nothing to add.
        pin = pins.get((one.role, one.name))
        if pin == one.fingerprint:
            continue
        standing = Standing.TRUSTED if pin is None else Standing.OVERRULED
        found.append(
            KnownPeer(
                name=one.name,
                role=one.role,
                fingerprint=one.fingerprint,
                standing=standing,
                source="enrolled",
                since=one.since,
            )
        )
    told = {peer.fingerprint for peer in found}
    found += [
        KnownPeer(
            name=one.name,
            role=None,
            fingerprint=one.fingerprint,
            standing=Standing.REVOKED,
            source="enrolled",
            since=one.since,
        )
        for one in revoked.values()
        if one.fingerprint not in told
    ]
    return found


def pinned(config: NodeConfig) -> dict[tuple[PeerRole, str], str]:
    """The fingerprints of the config."""
    return {(role, entry.name): entry.fingerprint for role, entry, _ in _entries(config) if entry.fingerprint}


def _entries(config: NodeConfig) -> Iterator[tuple[PeerRole, PeerEntry, bool]]:
    """The config's peers, and whether plaintext is allowed with them, in which nobody can be proved."""
    if config.work is not None:
        for peer in config.work.peers:
            yield PeerRole.BACKUP, peer, config.work.plaintext
    if config.backup is not None:
        for peer in config.backup.peers:
            yield PeerRole.WORK, peer, config.backup.plaintext
    for peer in config.consoles:
        yield PeerRole.CONSOLE, peer, False


def reach(config: NodeConfig, name: str) -> Peer:
    """The backup node `name` of a work node's config, with the fingerprint that stands there.

    Raises:
        UsageError: the config does not know it, or not its address.
    """
    known = config.work.peers if config.work else ()
    for entry in known:
        if entry.name == name:
            if entry.address is None:
                raise UsageError(
                    said("the peer has no address", "该对端没有地址"),
                    obj=f"{config.path}: {name}",
                    next_step=said("add its address", "请添加其地址"),
                )
            ports = dict(zip(DATA_CHANNELS, (entry.mirror_port, entry.replication_port), strict=True))
            return Peer(name=name, host=entry.address, ports=ports, fingerprint=entry.fingerprint)
    names = ", ".join(entry.name for entry in known) or "-"
    raise UsageError(
        said(f"no [[work.peer]] of this name; known: {names}", f"没有该名称的 [[work.peer]]；已有：{names}"),
        obj=f"{config.path}: {name}",
        next_step=said("add the backup node to the config", "请在配置中添加该灾备机"),
    )


def to_revoke(config: NodeConfig, book: Book, who: str) -> list[KnownPeer]:
    """All that `who`, a name or a fingerprint, means: in whatever role, also those revoked before.

    Raises:
        UsageError: nobody here is called so.
    """
    known = [peer for peer in known_peers(config, book) if peer.fingerprint is not None]
    found = [peer for peer in known if who in (peer.name, peer.fingerprint)]
    if not found:
        names = ", ".join(dict.fromkeys(peer.name for peer in known)) or "-"
        raise UsageError(
            said(f"nobody of this name is known here; known: {names}", f"没有该名称的对端；已有：{names}"),
            obj=who,
            next_step=said("see i2 node peers", "参见 i2 node peers"),
        )
    return found
