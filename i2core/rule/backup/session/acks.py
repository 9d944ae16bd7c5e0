"""Reports to the work node how far its replica is, and which records failed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from i2core.api import Failure, LinkError
from i2core.rule.backup.replica.replica import Replica
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.message_size import parts
from i2core.wire.messages import Ack, FailedRecord, dump

ACK_BYTES = 1 << 20
"""Most bytes of failures in one ack: as JSON they take several times that much memory."""


class Acknowledger:
    """The acks of one session."""

    def __init__(self, frames: FrameStream, replica: Replica) -> None:
        self._frames = frames
        self._replica = replica
        self._answered_seq = replica.progress.applied_seq
        """Every failure up to this seq was reported."""

    async def acknowledge(self, failures: Sequence[Failure], applied_seq: int) -> None:
        """Reports that all up to `applied_seq` is applied, and which records failed.

        An ack is never ahead of the failures. Failures that do not fit in one message are sent in earlier ones, and
        only the last message reports the new seq. The case that breaks otherwise: the first message reports the seq,
        and the link breaks before the second. The work node takes the remaining failures for applied records."""
        some: list[FailedRecord] = []
        for more in parts(map(FailedRecord.of, failures), FailedRecord.most_bytes, most_size=ACK_BYTES):
            if some:
                await self._send(some)
            some = more
        self._answered_seq = applied_seq
        await self._send(some)

    async def report(self) -> None:
        """Reports how far records are applied and durable now; there are no new failures."""
        await self._send([])

    async def _send(self, failures: list[FailedRecord]) -> None:
        answered = self._answered_seq
        ack = Ack(applied_seq=answered, durable_seq=min(answered, self._replica.durable_seq), failures=failures)
        # Such an ack fails when the peer has closed the session in order. Whether it has is found out where frames are
        # received.
        with contextlib.nullcontext() if failures else contextlib.suppress(LinkError):
            await self._frames.send(FrameType.ACK, dump(ack))
