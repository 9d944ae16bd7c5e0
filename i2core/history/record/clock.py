"""The clock of one history: a `SteadyClock` that is kept in its index."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from i2core.history.retention.clock import SteadyClock


class Reading(NamedTuple):
    """The clocks of this node, at one moment; see `SteadyClock`."""

    system_ns: int
    boot_id: bytes
    running_ns: int


Clocks = Callable[[], Reading]


class HistoryClock:
    """Never goes back, and never faster than a tenth more than time passes."""

    def __init__(self, clocks: Clocks, kept: str, applied_ns: int) -> None:
        """`kept`: by `encode`, empty when it is lost. `applied_ns`: the last time in the journal, 0 if there is
        none."""
        self._clocks = clocks
        self.steady = self._begun(kept, applied_ns)

    def _begun(self, kept: str, applied_ns: int) -> SteadyClock:
        now = self._clocks()
        if kept:
            now_ns, boot_id, running_ns, behind_ns = kept.split(" ")
            before = SteadyClock(int(now_ns), bytes.fromhex(boot_id), int(running_ns), int(behind_ns))
        elif applied_ns:
            before = SteadyClock(applied_ns, b"", 0)
        else:
            before = SteadyClock.begin(*now)
        return before.read(*now)

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        self.steady = self.steady.read(*self._clocks())
        return self.steady.now_ns

    def encode(self) -> str:
        """For the index."""
        steady = self.steady
        return f"{steady.now_ns} {steady.boot_id.hex()} {steady.running_ns} {steady.behind_ns}"
