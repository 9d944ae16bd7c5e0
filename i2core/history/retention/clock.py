"""The clock by which retention counts: that of the backup node, and never faster than time passes.

The system clock may jump: NTP, a dead battery, a hand that sets it, an attacker. History that is given up by a wrong
clock is gone. So the steady clock advances with the time that the node was really running, and runs a tenth faster or
slower until it has met the system clock again, as adjtime(3) does. A clock that is years ahead shortens seven days of
history to 6.4 days, not to nothing, and is reported meanwhile (3547). Time in which the node was off counts as none at
first: then history is kept longer than it need be.
"""

from __future__ import annotations

import attrs

SLEW = 10
"""The steady clock is wrong by at most a SLEWth of the time that passes, while it approaches the system clock."""
REPORTED_NS = 3600 * 10**9
"""A difference that is told."""


@attrs.frozen
class SteadyClock:
    """What the clock showed, and when. Kept over restarts."""

    now_ns: int
    """Nanoseconds since the epoch; never goes back."""
    boot_id: bytes
    running_ns: int
    """CLOCK_BOOTTIME at that moment: it goes on while the system sleeps, and begins anew when it boots."""
    behind_ns: int = 0
    """How far the system clock was ahead then; negative: behind."""

    @classmethod
    def begin(cls, system_ns: int, boot_id: bytes, running_ns: int) -> SteadyClock:
        """A clock that nobody has read yet: the system clock is believed."""
        return cls(system_ns, boot_id, running_ns)

    def read(self, system_ns: int, boot_id: bytes, running_ns: int) -> SteadyClock:
        """The clock now, from the system's clocks."""
        passed = max(running_ns - self.running_ns, 0) if boot_id == self.boot_id else 0
        steady = self.now_ns + passed
        step = passed // SLEW
        steady += min(max(system_ns - steady, -step), step)
        return SteadyClock(steady, boot_id, running_ns, system_ns - steady)

    @property
    def is_wrong(self) -> bool:
        """True when the system clock differs by so much that a person should look at it."""
        return abs(self.behind_ns) > REPORTED_NS
