"""Trusted nodes of a config as the transports want them: whom to accept, and where to find a backup node."""

from __future__ import annotations

from collections.abc import Iterable

from i2core.api import Channel, Peer, UsageError
from i2core.config.model import NodeConfig, PeerEntry
from i2core.node.speech import said


def trusted(peers: Iterable[PeerEntry]) -> dict[str, str]:
    """Fingerprint → name of each pinned peer (`TransportContext.peers`)."""
    return {peer.fingerprint: peer.name for peer in peers if peer.fingerprint is not None}


def reach(config: NodeConfig, name: str) -> Peer:
    """The backup node `name` of a work node's config.

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
            ports = {Channel.MIRROR: entry.mirror_port, Channel.REPLICATION: entry.replication_port}
            return Peer(name=name, host=entry.address, ports=ports, fingerprint=entry.fingerprint)
    names = ", ".join(entry.name for entry in known) or "-"
    raise UsageError(
        said(f"no [[work.peer]] of this name; known: {names}", f"没有该名称的 [[work.peer]]；已有：{names}"),
        obj=f"{config.path}: {name}",
        next_step=said("add the backup node to the config", "请在配置中添加该灾备机"),
    )
