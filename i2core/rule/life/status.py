"""The present status of a rule, for people and for programs."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Any

import attrs

from i2core.api import Code, I2Error
from i2core.rule.life.report import report_fields


class State(enum.Enum):
    """A rule's states, as in the manual."""

    STOPPED = "stopped"
    LISTING = "listing"
    MIRRORING = "mirroring"
    REPLICATING = "replicating"
    ABNORMAL = "abnormal"
    INVALID = "invalid"


class Received(enum.Enum):
    """What the backup side of a rule is doing."""

    RECEIVING = "receiving"
    """A session of its work node is open."""
    WAITING = "waiting"
    """No session is open, and this node knows of no error: the work node is away, or has stopped the rule."""
    HELD = "held"
    """A mass delete, or a replica that was turned back, waits for its release."""
    STOPPED = "stopped"
    """The last session was refused, or ended with an error that a person must deal with."""


@attrs.frozen
class Skipped:
    """Something that was not replicated, and why."""

    path: str
    code: int
    message: str


SKIPPED_KEPT = 1000
"""Skipped items kept by name. The rest is only counted, so that memory stays bounded."""


@attrs.define(kw_only=True)
class RuleStatus:
    """Live figures of one rule. One task writes, others read. Counters only grow within one run.

    One object has an attribute for each figure, so table, JSON, metrics and console show the same ones, and a reader
    need not know from which part of the rule a figure comes.
    """

    name: str
    state: State = State.STOPPED
    reason: str = "user"
    """Why it is stopped or abnormal: a value of `i2core.rule.life.states.Cause`; ``"none"`` while it works."""
    code: Code | None = None
    """The code of the error that is not resolved yet, or of the last change of state."""
    obj: str = ""
    """The object that the code concerns: a path, a peer. Empty: the rule itself."""
    cause: str = ""
    next_step: str = ""
    """What a person can do, if it differs from the code's own text."""
    bandwidth_bps: int | None = None
    """Bits per second that may be sent now. 0: none, the rule waits; None: no limit."""
    capture: str = ""
    """Name of the capture in use."""
    seq: int = 0
    """Last seq sent."""
    applied_seq: int = 0
    durable_seq: int = 0
    lag_bytes: int = 0
    """Encoded bytes in the outbox: they were sent or wait to be sent, and are not durable yet."""
    oldest_pending_ns: int | None = None
    """`time.monotonic_ns` of the oldest change that is not durable yet."""
    seen_settled_ns: int = 0
    """`settled_ns` as the run last set it."""
    spool_bytes: int = 0
    listed_files: int = 0
    listed_bytes: int = 0
    checked_files: int = 0
    """Non-directories that the mirror has finished: equal, or sent."""
    checked_bytes: int = 0
    listing_done: bool = False
    mirrored: bool = False
    """The mirror of this run is complete."""
    sent_files: int = 0
    """Objects that were created on the replica, or whose content was sent."""
    sent_bytes: int = 0
    """Content bytes sent, before codecs."""
    wire_bytes: int = 0
    """Bytes on the link in both directions, framing included."""
    captured: int = 0
    """Changes that the capture reported."""
    held: bool = False
    """The backup node holds a mass delete until it is released."""
    skipped: list[Skipped] = attrs.field(factory=list)
    skipped_count: int = 0
    doubtful: int = 0
    """Objects that differ on the replica, or may differ."""
    _skips: set[tuple[str, int]] = attrs.field(factory=set, init=False, repr=False, eq=False)
    started_s: float = attrs.field(factory=time.monotonic)
    look: Callable[[], None] = attrs.field(default=lambda: None, repr=False, eq=False)
    """Updates the figures that are derived from others. A run sets it while the rule runs, so that each reader gets the
    present figures."""

    @property
    def settled_ns(self) -> int:
        """The last time (`time.monotonic_ns`) at which every captured change was known to be durable on the replica.
        0: never."""
        self.look()
        return self.seen_settled_ns

    @property
    def percent(self) -> int:
        """Progress of the mirror, 0-100, by bytes where there are any, else by files."""
        if self.mirrored:
            return 100
        if self.listed_bytes:
            return min(99, self.checked_bytes * 100 // self.listed_bytes)
        return min(99, self.checked_files * 100 // self.listed_files) if self.listed_files else 0

    @property
    def lag_seconds(self) -> float | None:
        """Age of the oldest change that is not durable on the replica; 0.0 when there is none. None: unknown, since the
        rule catches no changes, or has not compared both sides yet."""
        if not self.mirrored or self.state not in (State.REPLICATING, State.ABNORMAL, State.INVALID):
            return None
        return 0.0 if self.oldest_pending_ns is None else (time.monotonic_ns() - self.oldest_pending_ns) / 1e9

    @property
    def behind(self) -> bool:
        """True when there is a known change that is not durable on the replica."""
        return self.oldest_pending_ns is not None or self.durable_seq < self.seq

    def note(self, error: I2Error) -> None:
        """Shows this error until it is resolved."""
        self.code, self.obj, self.cause, self.next_step = error.code, error.obj, error.cause, error.next_step

    def clear(self) -> None:
        """Shows no error any more."""
        self.code, self.obj, self.cause, self.next_step = None, "", "", ""

    def skip(self, path: str, code: Code, message: str) -> bool:
        """Notes a skipped object, only once however often it is retried. False: it was noted before."""
        if (path, int(code)) in self._skips:
            return False
        self.skipped_count += 1
        if len(self.skipped) < SKIPPED_KEPT:
            self.skipped.append(Skipped(path, int(code), message))
            self._skips.add((path, int(code)))
        return True

    def as_json(self) -> dict[str, Any]:
        """The fields of ``i2 rule status --json``, as they are now."""
        self.look()
        lag_s = self.lag_seconds
        return {
            "name": self.name,
            "state": self.state.value,
            "reason": self.reason,
            "percent": self.percent,
            **report_fields(self.code, obj=self.obj, cause=self.cause, next_step=self.next_step),
            "seq": self.seq,
            "durable_seq": self.durable_seq,
            "lag_seconds": None if lag_s is None else round(lag_s, 3),
            "lag_bytes": self.lag_bytes,
            "spool_bytes": self.spool_bytes,
            "bandwidth_bps": self.bandwidth_bps,
            "capture": self.capture,
            "held": self.held,
            "listed_files": self.listed_files,
            "sent_files": self.sent_files,
            "sent_bytes": self.sent_bytes,
            "wire_bytes": self.wire_bytes,
            "captured": self.captured,
            "skipped": self.skipped_count,
            "doubtful": self.doubtful,
        }

    def summary_json(self) -> dict[str, Any]:
        """The result that ``i2 replicate --once --json`` prints at its end."""
        return {
            "state": "done",
            "files": self.listed_files,
            "bytes": self.listed_bytes,
            "sent_files": self.sent_files,
            "sent_bytes": self.sent_bytes,
            "wire_bytes": self.wire_bytes,
            "seconds": round(time.monotonic() - self.started_s, 3),
            "skipped": [attrs.asdict(s) for s in self.skipped],
        }
