"""Keeps a session alive from the work node's end: pings, and detects a backup node that has become silent. The backup
node's end is `i2core.rule.backup.session.inbox`, with the same times."""

from __future__ import annotations

import trio

from i2core.api import LinkError
from i2core.api.records import Buffer
from i2core.wire.frame import HEADER_BYTES, FrameStream, FrameType

PING_S = 5.0
SILENCE_S = 30.0
"""A peer that sends nothing for so long counts as gone."""


class KeepAlive:
    """The pings of one session and their answers."""

    def __init__(self, frames: FrameStream) -> None:
        self._frames = frames
        self.ping_bytes = 0
        """Bytes of pings that were sent: they are no progress of the transfer."""
        self.peer_beat = 0
        """A number that the backup node reports; it changes while the backup node makes progress."""

    def answered(self, pong: Buffer) -> None:
        """Takes the payload of a PONG."""
        self.peer_beat = int.from_bytes(pong[:8], "little")

    async def ping(self) -> None:
        """Pings until cancelled.

        Raises:
            LinkError: the link broke.
        """
        while True:
            await trio.sleep(PING_S)
            await self._frames.send(FrameType.PING)
            self.ping_bytes += HEADER_BYTES

    async def detect_silence(self) -> None:
        """Watches until cancelled. A task of its own: sending a ping may wait forever for a batch that a dead peer does
        not read.

        Raises:
            LinkError: nothing has come for a long time.
        """
        while True:
            await trio.sleep(PING_S)
            if trio.current_time() - self._frames.heard_at > SILENCE_S:
                raise LinkError(f"the backup node has sent nothing for {SILENCE_S:.0f} s")
