"""Determines the trusted peers and their roles: those of the config and the enrolled ones, without the revoked.
Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping

import attrs

from i2core.api import Channel, Peer, UsageError
from i2core.config.model import NodeConfig, PeerEntry
from i2core.config.words import bilingual
from i2core.node.pairing.peer_book import Book, Enrolled, PeerRole, Revoked


class Standing(enum.Enum):
    """The trust state of a peer."""

    TRUSTED = "trusted"
    UNPAIRED = "unpaired"
    """The config names it without a fingerprint, and it is not enrolled yet."""
    OVERRULED = "overruled"
    """Enrolled, while the config pins another fingerprint for that name: the config wins."""
    REVOKED = "revoked"


@attrs.frozen(kw_only=True)
class KnownPeer:
    """One line of `i2 node peers`."""

    name: str
    role: PeerRole | None
    """None for a revoked peer that neither config nor book names."""
    fingerprint: str | None
    standing: Standing
    source: str
    """``"config"`` or ``"enrolled"``."""
    since: str | None
    """ISO 8601, UTC: date of enrolment or revocation; None for a peer of the config."""
    entry: PeerEntry | None = None
    """Its entry in the config, for address and ports."""


def known_peers(config: NodeConfig, book: Book) -> list[KnownPeer]:
    """All peers of config and book, each once for each role."""
    revoked = {one.fingerprint: one for one in book.revoked}
    pins = pinned(config)
    found = [_configured(*peer, book.enrolled, revoked) for peer in _entries(config)]
    named = {(peer.role, peer.name) for peer in found if peer.source == "enrolled"}
    found += [
        _enrolled(one, Standing.TRUSTED if (one.role, one.name) not in pins else Standing.OVERRULED)
        for one in book.enrolled
        # If the config names the same certificate too, there is nothing to add.
        if (one.role, one.name) not in named and pins.get((one.role, one.name)) != one.fingerprint
    ]
    listed = {peer.fingerprint for peer in found}
    return found + [_revoked(one) for one in revoked.values() if one.fingerprint not in listed]


def _configured(
    role: PeerRole,
    entry: PeerEntry,
    plaintext: bool,
    enrolled: Iterable[Enrolled],
    revoked: Mapping[str, Revoked],
) -> KnownPeer:
    """A peer of the config, with the fingerprint of its enrolment if the config has none."""
    pin, source, since = entry.fingerprint, "config", None
    if pin is None:
        for one in enrolled:
            if (one.role, one.name) == (role, entry.name):
                pin, source, since = one.fingerprint, "enrolled", one.since
    standing = Standing.UNPAIRED if pin is None and not plaintext else Standing.TRUSTED
    if pin is not None and pin in revoked:
        standing, since = Standing.REVOKED, revoked[pin].since
    return KnownPeer(
        name=entry.name, role=role, fingerprint=pin, standing=standing, source=source, since=since, entry=entry
    )


def _enrolled(one: Enrolled, standing: Standing) -> KnownPeer:
    """A peer that the book alone has under this name."""
    return KnownPeer(
        name=one.name,
        role=one.role,
        fingerprint=one.fingerprint,
        standing=standing,
        source="enrolled",
        since=one.since,
    )


def _revoked(one: Revoked) -> KnownPeer:
    """A revoked peer that is named nowhere else."""
    return KnownPeer(
        name=one.name,
        role=None,
        fingerprint=one.fingerprint,
        standing=Standing.REVOKED,
        source="enrolled",
        since=one.since,
    )


def pinned(config: NodeConfig) -> dict[tuple[PeerRole, str], str]:
    """The fingerprints pinned in the config."""
    return {(role, entry.name): entry.fingerprint for role, entry, _ in _entries(config) if entry.fingerprint}


def _entries(config: NodeConfig) -> Iterator[tuple[PeerRole, PeerEntry, bool]]:
    """The config's peers, and whether plaintext is allowed with them; in plaintext no identity is proved."""
    if config.work is not None:
        for peer in config.work.peers:
            yield PeerRole.BACKUP, peer, config.work.plaintext
    if config.backup is not None:
        for peer in config.backup.peers:
            yield PeerRole.WORK, peer, config.backup.plaintext
    for peer in config.consoles:
        yield PeerRole.CONSOLE, peer, False


def reach(config: NodeConfig, name: str) -> Peer:
    """The backup node `name` of a work node's config, with the fingerprint of the config.

    Raises:
        UsageError: the config does not have it, or lacks its address.
    """
    known = config.work.peers if config.work else ()
    for entry in known:
        if entry.name == name:
            if entry.address is None:
                raise UsageError(
                    bilingual("the peer has no address", "该对端没有地址"),
                    obj=f"{config.path}: {name}",
                    next_step=bilingual("add its address", "请添加其地址"),
                )
            ports = {
                Channel.MIRROR: entry.mirror_port,
                Channel.REPLICATION: entry.replication_port,
                Channel.RECOVERY: entry.recovery_port,
            }
            return Peer(name=name, host=entry.address, ports=ports, fingerprint=entry.fingerprint)
    names = ", ".join(entry.name for entry in known) or "-"
    raise UsageError(
        bilingual(f"no [[work.peer]] of this name; known: {names}", f"没有该名称的 [[work.peer]]；已有：{names}"),
        obj=f"{config.path}: {name}",
        next_step=bilingual("add the backup node to the config", "请在配置中添加该灾备机"),
    )


def to_revoke(config: NodeConfig, book: Book, who: str) -> list[KnownPeer]:
    """All peers with that name or fingerprint, in every role, including those revoked before.

    Raises:
        UsageError: no peer has it.
    """
    known = [peer for peer in known_peers(config, book) if peer.fingerprint is not None]
    found = [peer for peer in known if who in (peer.name, peer.fingerprint)]
    if not found:
        names = ", ".join(dict.fromkeys(peer.name for peer in known)) or "-"
        raise UsageError(
            bilingual(f"no peer of this name is known here; known: {names}", f"没有该名称的对端；已有：{names}"),
            obj=who,
            next_step=bilingual("see i2 node peers", "参见 i2 node peers"),
        )
    return found
