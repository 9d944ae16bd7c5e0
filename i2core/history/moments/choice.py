"""Which of the moments that can be had is meant by a time: the right one, or a refusal that names its neighbours.

    marks            floor                      last
    ●──────●─────────●━━━━━━━━━━━━━━━━━━━━━━━━━━●
    single moments   every moment

Between two single moments states are gone that were there once. A time in between is refused: whoever restores
must not get another state than was asked for without knowing it.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable, Sequence

import attrs

from i2core.api import UsageError
from i2core.config.words import Bilingual, bilingual
from i2core.history.model.rows import Moment
from i2core.history.moments.text import format_moment


class Nearest(enum.Enum):
    """Which neighbour to take for a moment that is gone."""

    BEFORE = "before"
    AFTER = "after"


@attrs.frozen
class Available:
    """The moments that can be had. Each state holds from its time until the next change."""

    floor: Moment
    """The oldest moment from which on every one is kept."""
    last: Moment
    """The newest one."""
    marks: Sequence[Moment] = ()
    """Single moments before the floor, oldest first."""

    @property
    def first(self) -> Moment:
        """The oldest one."""
        return self.marks[0] if self.marks else self.floor


def choose(
    time_ns: int,
    had: Available,
    log: Callable[[int], Moment | None],
    *,
    where: datetime.tzinfo,
    nearest: Nearest | None = None,
) -> Moment:
    """The moment that is meant by a time of the work node's clock: the state after the last change at that time or
    before it.

    `log`: the last moment at a time or before it, of those from the floor on; None: there is none. `where`: the zone in
    which moments are shown.

    Raises:
        UsageError: that state is not kept any more, or was never: the neighbours are named, and `nearest` takes one.
    """
    if time_ns >= had.floor.time_ns:
        found = log(time_ns)
        return had.floor if found is None or found.seq < had.floor.seq else found
    at = [mark for mark in had.marks if mark.time_ns == time_ns]
    if at:
        return at[-1]
    before = [mark for mark in had.marks if mark.time_ns < time_ns]
    after = [mark for mark in (*had.marks, had.floor) if mark.time_ns > time_ns]
    if nearest is Nearest.BEFORE and before:
        return before[-1]
    if nearest is Nearest.AFTER:
        return after[0]
    raise _gone(time_ns, before[-1] if before else None, after[0], where)


def check_seq(seq: int, had: Available) -> None:
    """Whether the state after this record can be had.

    Raises:
        UsageError: it is not kept any more, or no such record was applied yet.
    """
    if seq > had.last.seq:
        raise UsageError(
            bilingual(f"the last change has the number {had.last.seq}", f"最后一个变化的序号是 {had.last.seq}"),
            obj=str(seq),
            next_step=bilingual("see i2 cdp log", "参见 i2 cdp log"),
        )
    marks = [mark.seq for mark in had.marks]
    if seq < had.floor.seq and seq not in marks:
        before = max((mark for mark in marks if mark < seq), default=None)
        after = min(mark for mark in (*marks, had.floor.seq) if mark > seq)
        raise UsageError(
            bilingual("this moment is not kept any more", "该时刻已不再保留"),
            obj=str(seq),
            next_step=_take(None if before is None else str(before), str(after)),
        )


def _gone(time_ns: int, before: Moment | None, after: Moment, where: datetime.tzinfo) -> UsageError:
    text = format_moment(time_ns, where)
    later = format_moment(after.time_ns, where)
    if before is None:
        return UsageError(
            bilingual(f"the history begins at {later}", f"历史始于 {later}"),
            obj=text,
            next_step=bilingual(f"take {later} (--nearest after)", f"请改用 {later}（--nearest after）"),
        )
    return UsageError(
        bilingual("this moment is not kept any more", "该时刻已不再保留"),
        obj=text,
        next_step=_take(f"{format_moment(before.time_ns, where)} (--nearest before)", f"{later} (--nearest after)"),
    )


def _take(before: str | None, after: str) -> Bilingual:
    if before is None:
        return bilingual(f"take {after}", f"请改用 {after}")
    return bilingual(f"take {before} or {after}", f"请改用 {before} 或 {after}")
