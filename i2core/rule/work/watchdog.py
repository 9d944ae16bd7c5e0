"""Detects a stalled transfer: data waits for the backup node, and there is no progress. The session is closed, and a
new one resumes.

Progress is: bytes accepted by the connection, an ack, an answer, or the backup node's report that its disk is working
(`i2core.rule.backup.session.progress_signal`). A transfer that waits for its bandwidth limit, or for the release of a
held delete, is not stalled. All times are from trio's monotonic clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
import trio

from i2core.api import Code, LinkError
from i2core.config.words import bilingual
from i2core.limits.throttle import Throttle, ThrottledStream
from i2core.wire.session import Session

STALL_S = 20.0
"""After so long without progress a transfer is stalled. The backup node's report may be `PING_S` late, so a stall is
detected within 30 seconds."""
LOOK_S = 1.0
ASLEEP_S = 5.0
"""If a check comes so late, this process did not run (the host was suspended, for example), and the missing progress
says nothing about the transfer."""


class TransferCounters(NamedTuple):
    """Counters of one session. A change of any of them is progress."""

    sent_bytes: int
    applied_seq: int
    durable_seq: int
    answers: int
    peer: int


@attrs.define
class StallWatch:
    """Measures how long there has been no progress while data waited."""

    _last: TransferCounters | None = None
    _since_s: float = 0.0
    _looked_s: float = 0.0

    def look(self, now_s: float, moves: TransferCounters, *, waits: bool) -> bool:
        """True when the transfer is stalled. Called often, with the time of a monotonic clock."""
        if not waits or moves != self._last or now_s - self._looked_s > ASLEEP_S:
            self._last, self._since_s = moves, now_s
        self._looked_s = now_s
        return now_s - self._since_s >= STALL_S


async def detect_stall(
    session: Session, stream: ThrottledStream, throttle: Throttle, held: Callable[[], bool], peer: str
) -> None:
    """Watches until cancelled.

    Raises:
        LinkError: the transfer is stalled (3614).
    """
    watch = StallWatch()
    while True:
        sent_bytes = stream.sent_bytes - session.keep_alive.ping_bytes
        moves = TransferCounters(
            sent_bytes=sent_bytes,
            applied_seq=session.window.applied_seq,
            durable_seq=session.window.durable_seq,
            answers=session.questions.answered,
            peer=session.keep_alive.peer_beat,
        )
        waits = session.owed and not throttle.holding and not held()
        if watch.look(trio.current_time(), moves, waits=waits):
            raise LinkError(
                bilingual(
                    f"data waits to be sent, and there was no progress for {STALL_S:.0f} s",
                    f"有数据待发送，但 {STALL_S:.0f} 秒内毫无进展",
                ),
                code=Code.STALLED,
                obj=peer,
            )
        await trio.sleep(LOOK_S)
