"""What is known about a rule right now, for people and for programs."""

from __future__ import annotations

import enum
import time
from typing import Any

import attrs

from i2core.api import Code, I2Error
from i2core.rule.line import told


class State(enum.Enum):
    """A rule's states, as in the manual."""

    STOPPED = "stopped"
    LISTING = "listing"
    MIRRORING = "mirroring"
    REPLICATING = "replicating"
    ABNORMAL = "abnormal"
    INVALID = "invalid"


@attrs.frozen
class Skipped:
    """Something that was not replicated, and why."""

    path: str
    code: int
    message: str


SKIPPED_KEPT = 1000
"""Skipped items kept by name; the rest is only counted, so that memory stays flat."""


@attrs.define(kw_only=True)
class RuleStatus:
    """Live figures of one rule; one task writes, others read. Counters only grow within one run."""

    name: str
    state: State = State.STOPPED
    reason: str = "user"
    """Why it is stopped or abnormal, as `i2core.rule.states.Cause` has it; ``"none"`` while it works."""
    code: Code | None = None
    """Of the last error that is not over, or of the last step in the rule's life."""
    obj: str = ""
    """What the code is about: a path, a peer. Empty: the rule itself."""
    cause: str = ""
    next_step: str = ""
    """What to do, where it is more than what the code says."""
    bandwidth_bps: int | None = None
    """Bits a second that may be sent now; 0: none, the rule waits; None: as many as the link takes."""
    capture: str = ""
    """Name of the capture at work."""
    seq: int = 0
    """Last seq sent."""
    applied_seq: int = 0
    durable_seq: int = 0
    lag_bytes: int = 0
    """Encoded bytes that were sent and are not durable yet; while the link is down, those of the last session."""
    oldest_pending_ns: int | None = None
    """`time.monotonic_ns` of the oldest change that is not durable yet."""
    settled_ns: int = 0
    """`time.monotonic_ns` at which it was last seen that all that was captured is durable on the replica; 0: never."""
    spool_bytes: int = 0
    listed_files: int = 0
    listed_bytes: int = 0
    checked_files: int = 0
    """Non-directories that the mirror is done with (same, or sent)."""
    checked_bytes: int = 0
    listing_done: bool = False
    mirrored: bool = False
    """The mirror of this run is complete."""
    sent_files: int = 0
    """Objects whose content or existence was sent."""
    sent_bytes: int = 0
    """Content bytes sent, before codecs."""
    wire_bytes: int = 0
    """Bytes on the link in both directions, framing included."""
    captured: int = 0
    """Changes that the capture reported."""
    held: bool = False
    """The backup node holds a mass delete until released."""
    skipped: list[Skipped] = attrs.field(factory=list)
    skipped_count: int = 0
    _skips: set[tuple[str, int]] = attrs.field(factory=set, init=False, repr=False, eq=False)
    started_s: float = attrs.field(factory=time.monotonic)

    @property
    def percent(self) -> int:
        """Progress of the mirror, 0-100, by bytes where there are any, else by files."""
        if self.mirrored:
            return 100
        if self.listed_bytes:
            return min(99, self.checked_bytes * 100 // self.listed_bytes)
        return min(99, self.checked_files * 100 // self.listed_files) if self.listed_files else 0

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest change that is not durable on the replica; 0.0 when there is none."""
        return 0.0 if self.oldest_pending_ns is None else (time.monotonic_ns() - self.oldest_pending_ns) / 1e9

    def note(self, error: I2Error) -> None:
        """An error is what there is to say about the rule now."""
        self.code, self.obj, self.cause, self.next_step = error.code, error.obj, error.cause, error.next_step

    def clear(self) -> None:
        """Whatever was wrong is over."""
        self.code, self.obj, self.cause, self.next_step = None, "", "", ""

    def skip(self, path: str, code: Code, message: str) -> None:
        """Notes an object that was left out; once, however often it is tried again."""
        if (path, int(code)) in self._skips:
            return
        self.skipped_count += 1
        if len(self.skipped) < SKIPPED_KEPT:
            self.skipped.append(Skipped(path, int(code), message))
            self._skips.add((path, int(code)))

    def as_json(self) -> dict[str, Any]:
        """The fields of ``i2 rule status --json``."""
        return {
            "name": self.name,
            "state": self.state.value,
            "reason": self.reason,
            "percent": self.percent,
            **told(self.code, obj=self.obj, cause=self.cause, next_step=self.next_step),
            "seq": self.seq,
            "durable_seq": self.durable_seq,
            "lag_seconds": round(self.lag_seconds, 3),
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
        }

    def summary_json(self) -> dict[str, Any]:
        """What ``i2 replicate --once --json`` ends with."""
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
