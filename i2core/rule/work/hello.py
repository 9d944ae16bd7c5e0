"""What the backup node is told of a rule when a session begins, and what it is not."""

from __future__ import annotations

from i2core import __version__
from i2core.api import Channel
from i2core.config.model import DriverChoice, Rule
from i2core.rule.work.opening import directories
from i2core.wire.messages import BrakeLimits, CodecName, Hello, OrphanPolicy


def hello(rule: Rule, channel: Channel, epoch: int) -> Hello:
    """The first message of a session."""
    return Hello(
        version=__version__,
        rule=rule.name,
        channel=channel.value,
        epoch=epoch,
        targets=[pair.target.decode("latin-1") for pair in directories(rule)],
        codecs=[CodecName(name=codec.name, options=_public(codec)) for codec in rule.codecs],
        orphans=OrphanPolicy(
            action=rule.orphans.action.value,
            to=rule.orphans.to.decode("latin-1") if rule.orphans.to else None,
            archive=rule.orphans.archive,
        ),
        brake=BrakeLimits(
            share=rule.brake.share, window_s=rule.brake.window_s, least=rule.brake.least, on=rule.brake.share < 1
        ),
    )


def _public(codec: DriverChoice) -> dict[str, object]:
    """A codec's options that the backup node may see: never where a secret lies."""
    secret = ("key", "pass")
    return {name: value for name, value in codec.options.items() if not name.startswith(secret)}
