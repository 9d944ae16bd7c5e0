"""Finds a transfer that stalled: data waits for the backup node, and nothing moves. Its session is closed, and another
one resumes.

What counts as a move: bytes that the connection took, an ack, an answer, or the backup node's word that its disk is at
work (`i2core.rule.backup.pulse`). What waits for a bandwidth limit, or for somebody to release a held delete, does not
stall. All by trio's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import attrs
import trio

from i2core.api import Code, LinkError
from i2core.config.words import Spoken
from i2core.pipeline.throttle import Throttle, ThrottledStream
from i2core.wire.session import Session

STALL_S = 20.0
"""Nothing moved for so long. The backup node's word may be `PING_S` late: a stall is found within 30 seconds."""
LOOK_S = 1.0
ASLEEP_S = 5.0
"""A look that comes so late says that this process did not run, and so nothing about the transfer."""


class Moves(NamedTuple):
    """Counters of one session; any change of one is a move."""

    sent_bytes: int
    applied_seq: int
    durable_seq: int
    answers: int
    peer: int


@attrs.define
class StallWatch:
    """Judges how long nothing moved while something waited."""

    _last: Moves | None = None
    _since_s: float = 0.0
    _looked_s: float = 0.0

    def look(self, now_s: float, moves: Moves, *, waits: bool) -> bool:
        """True when the transfer stalls; to be asked often, with the time of a clock that nobody sets."""
        if not waits or moves != self._last or now_s - self._looked_s > ASLEEP_S:
            self._last, self._since_s = moves, now_s
        self._looked_s = now_s
        return now_s - self._since_s >= STALL_S


async def watch_session(
    session: Session, stream: ThrottledStream, throttle: Throttle, held: Callable[[], bool], peer: str
) -> None:
    """Watches until cancelled.

    Raises:
        LinkError: the transfer stalls (3614).
    """
    watch = StallWatch()
    while True:
        sent_bytes = stream.sent_bytes - session.ping_bytes
        moves = Moves(sent_bytes, session.applied_seq, session.durable_seq, session.answers, session.peer_beat)
        waits = session.owed and not throttle.holding and not held()
        if watch.look(trio.current_time(), moves, waits=waits):
            raise LinkError(
                Spoken.of(
                    f"nothing moved for {STALL_S:.0f} s, and data waits to be sent",
                    f"有数据待发送，但 {STALL_S:.0f} 秒内毫无进展",
                ),
                code=Code.STALLED,
                obj=peer,
            )
        await trio.sleep(LOOK_S)
