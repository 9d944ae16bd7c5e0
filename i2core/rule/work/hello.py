"""The greeting of a session: what the backup node learns about a rule, and what it does not."""

from __future__ import annotations

from i2core import __version__
from i2core.api import Channel, DriverKind
from i2core.config.model import DriverChoice, Rule
from i2core.config.options import named_to_peer
from i2core.drivers.select import Drivers
from i2core.history.moments.zones import local_zone_name
from i2core.posix.path_text import as_text
from i2core.rule.work.opening import directories
from i2core.wire.messages import (
    CDP_PROTOCOL,
    FLAGS_PROTOCOL,
    PROTOCOL_VERSION,
    SNAPSHOT_PROTOCOL,
    CodecName,
    Hello,
    OrphanPolicy,
    SnapshotWish,
    limits_of,
    policy_of,
)


def hello(rule: Rule, channel: Channel, epoch: int, drivers: Drivers) -> Hello:
    """The first message of a session. Of a codec's options it contains only those that the backup node may know: never
    a secret, or the path of one."""
    has_past = rule.cdp is not None or rule.snapshot is not None
    return Hello(
        protocol=_protocol(rule),
        version=__version__,
        rule=rule.name,
        channel=channel.value,
        epoch=epoch,
        targets=[as_text(pair.target) for pair in directories(rule)],
        codecs=[CodecName(name=codec.name, options=_public(codec, drivers)) for codec in rule.codecs],
        orphans=OrphanPolicy(
            action=rule.orphans.action.value,
            to=as_text(rule.orphans.to) if rule.orphans.to else None,
            archive=rule.orphans.archive,
        ),
        brake=limits_of(rule.brake),
        inode_flags=rule.inode_flags,
        cdp=policy_of(rule.cdp) if rule.cdp is not None else None,
        snapshot=SnapshotWish.of(rule.snapshot) if rule.snapshot is not None else None,
        zone=local_zone_name() if has_past else "",
        sources=[as_text(pair.source) for pair in directories(rule)] if has_past else [],
    )


def _protocol(rule: Rule) -> int:
    """The lowest version that has what the rule needs."""
    if rule.snapshot is not None:
        return SNAPSHOT_PROTOCOL
    if rule.cdp is not None:
        return CDP_PROTOCOL
    return FLAGS_PROTOCOL if rule.inode_flags else PROTOCOL_VERSION


def _public(codec: DriverChoice, drivers: Drivers) -> dict[str, object]:
    allowed = named_to_peer(drivers.driver(DriverKind.CODEC, codec.name))
    return {name: value for name, value in codec.options.items() if name in allowed}
