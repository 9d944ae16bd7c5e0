"""Time in the simulation: wall clocks, which may jump, and the monotonic clock.

trio's MockClock is the only source. Work takes time as well: each reading of the clock is a little later than the
previous one, so that work which is paced by time is paced here, too.
"""

from __future__ import annotations

import time
from random import Random

import trio

from i2core.testing.sim.machine import running

EPOCH_S = 1_700_000_000
"""The time of the wall clocks at the start of a history."""
_STEPS_S = (0.0, 0.0, 0.0005, 0.003, 0.012)


class SimTime:
    """Replaces the module ``time`` in the modules of the product."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._spent_s = 0.0

    def __getattr__(self, name: str) -> object:
        if name not in ("struct_time", "strftime", "gmtime", "localtime", "tzname", "CLOCK_BOOTTIME"):
            raise AttributeError(f"the simulation lacks time.{name}")
        return getattr(time, name)

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        self._spent_s += self._chance.choice(_STEPS_S)
        return trio.current_time() + self._spent_s

    perf_counter = monotonic

    def monotonic_ns(self) -> int:
        """As `time.monotonic_ns`."""
        return int(self.monotonic() * 1e9)

    def clock_gettime_ns(self, clock: int) -> int:
        """As `time.clock_gettime_ns` of CLOCK_BOOTTIME, for machines that booted at the start of the history."""
        if clock != time.CLOCK_BOOTTIME:
            raise AssertionError(f"the simulation lacks the clock {clock}")
        return int(trio.current_time() * 1e9)

    def time(self) -> float:
        """As `time.time`, by the wall clock of the machine that asks."""
        machine = running.get()
        return EPOCH_S + trio.current_time() + (machine.wall_offset_s if machine else 0.0)

    def time_ns(self) -> int:
        """As `time.time_ns`."""
        return int(self.time() * 1e9)
