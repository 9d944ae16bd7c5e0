"""`cdp.lock`: moments that nobody may give up before they have reached an age, not even this node's own commands.

A lock that is made shorter stays true for what was written under it. So it is kept with the history, and the config
only says what it is from now on.
"""

from __future__ import annotations

from typing import NamedTuple

import attrs


class Former(NamedTuple):
    """A longer lock that was in force before: for moments before `until_ns`."""

    until_ns: int
    age_ns: int


@attrs.frozen
class Lock:
    """Times are those of the steady clock."""

    age_ns: int = 0
    """Every moment is locked until it is so old, also those before the lock was set; 0: none."""
    former: tuple[Former, ...] = ()

    def set(self, age_ns: int, now_ns: int) -> Lock:
        """The lock with another age from now on."""
        former = [each for each in self.former if each.until_ns + each.age_ns > now_ns]
        if age_ns < self.age_ns:
            former.append(Former(now_ns, self.age_ns))
        return Lock(age_ns, tuple(former))

    def free_before(self, now_ns: int) -> int | None:
        """Everything up to this time may be given up at once, as a floor does; None: everything may."""
        bounds = [now_ns - self.age_ns] if self.age_ns else []
        bounds += [now_ns - age for until, age in self.former if now_ns - age < until]
        return min(bounds, default=None)

    def holds(self, time_ns: int, now_ns: int) -> bool:
        """True while this one moment may not be given up."""
        age_ns = now_ns - time_ns
        return age_ns < self.age_ns or any(time_ns < until and age_ns < age for until, age in self.former)
