"""Which moments of a history can be had."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from i2core.history.model.rows import Moment
from i2core.history.moments.choice import Available, Nearest, check_seq, choose
from i2core.history.moments.text import format_moment
from i2core.history.record.history import History


class Span(NamedTuple):
    """The moments that can be had, and where they are shown."""

    had: Available
    zone: datetime.tzinfo
    """Of the work node."""

    def moment(self, history: History, time_ns: int, nearest: Nearest | None = None) -> Moment:
        """The moment that is meant by a time of the work node's clock.

        Raises:
            UsageError: that state is not kept any more, or was never.
        """
        return choose(time_ns, self.had, history.moment, where=self.zone, nearest=nearest)

    def numbered(self, history: History, seq: int) -> Moment:
        """The state after the record of this number.

        Raises:
            UsageError: it cannot be had.
        """
        check_seq(seq, self.had)
        for known in (self.had.floor, self.had.last, *self.had.marks):
            if known.seq == seq:
                return known
        with history.reading:
            time_ns = history.log().time(seq)
        return Moment(self.had.floor.time_ns if time_ns is None else time_ns, seq)

    def shown(self, time_ns: int) -> str:
        """A time as people write it."""
        return format_moment(time_ns, self.zone)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        one = self._one
        return {
            "first": one(self.had.first),
            "floor": one(self.had.floor),
            "last": one(self.had.last),
            "marks": [one(mark) for mark in self.had.marks],
            "zone": str(self.zone),
        }

    def _one(self, moment: Moment) -> dict[str, Any]:
        return {"seq": moment.seq, "time_ns": moment.time_ns, "time": self.shown(moment.time_ns)}


def span_of(history: History, zone: datetime.tzinfo) -> Span:
    """The moments of a history. The state before its first record holds since the history began."""
    kept, last = history.kept(), history.seq
    begun_ns = history.begun_ns
    with history.reading:
        log = history.log()

        def moment(seq: int) -> Moment:
            time_ns = log.time(seq) if seq else None
            return Moment(begun_ns if time_ns is None else time_ns, seq)

        floor, newest = moment(kept.floor), moment(last)
    times = {mark.next_seq - 1: mark.time_ns for mark in history.journal.marks}
    marks = tuple(Moment(times[seq], seq) for seq in kept.marks if seq < kept.floor and seq in times)
    return Span(Available(floor, newest, marks), zone)
