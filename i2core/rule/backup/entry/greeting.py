"""Reads the greeting, the first message of each connection."""

from __future__ import annotations

import contextlib

import trio

from i2core import __version__
from i2core.api import Channel, Code, I2Error, LinkError, ProtocolError, StopRule
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import PROTOCOL_VERSION, PROTOCOLS, Fault, Hello, dump, parse, protocol_of
from i2core.wire.session import GREETING_S

GREETING_BYTES = 1 << 20
"""JSON takes far more memory than it takes on the wire."""
REFUSAL_S = 2.0
"""A peer that does not receive the refusal within this time is disconnected without it."""


async def read_greeting(frames: FrameStream, channel: Channel) -> Hello:
    """The greeting of a connection that was accepted on the port of `channel`.

    Raises:
        LinkError: no greeting arrived in time.
        ProtocolError: another message arrived.
        StopRule: the work node speaks another version of the protocol.
    """
    with trio.move_on_after(GREETING_S) as patience:
        frame = await frames.receive()
    if patience.cancelled_caught or frame is None:
        raise LinkError("no greeting arrived")
    if frame.type is not FrameType.HELLO:
        raise ProtocolError(f"expected a greeting, got {frame.type.name}")
    if len(frame.payload) > GREETING_BYTES:
        raise ProtocolError(f"a greeting of {len(frame.payload)} bytes exceeds the limit of {GREETING_BYTES}")
    spoken = protocol_of(frame.payload)
    if spoken not in PROTOCOLS:
        raise StopRule(
            f"the work node speaks protocol {spoken}, this node {PROTOCOL_VERSION} ({__version__})",
            code=Code.VERSION_MISMATCH,
            next_step="install the same version on both",
        )
    hello = parse(frame.payload, Hello)
    if hello.channel != channel.value and not (hello.channel == Channel.COMPARE.value and channel is Channel.MIRROR):
        raise ProtocolError(f"a greeting for {hello.channel} on the {channel.value} port")
    return hello


async def refuse(frames: FrameStream, error: I2Error) -> None:
    """Reports to the peer why there is no session."""
    with trio.move_on_after(REFUSAL_S), contextlib.suppress(LinkError):
        await frames.send(FrameType.REFUSE, dump(Fault.of(error)))
