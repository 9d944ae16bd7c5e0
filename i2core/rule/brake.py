"""The mass-delete brake: a pure decision on how many files went within a window, and how many are left."""

from __future__ import annotations

from collections import deque

from i2core.wire.messages import BrakeLimits


class DeleteWindow:
    """Removals of the last `window_s` seconds. Times are seconds of any monotonic clock."""

    def __init__(self, limits: BrakeLimits) -> None:
        self.limits = limits
        self._removed: deque[tuple[float, int]] = deque()
        self._free_until = 0.0

    def removed(self, now: float) -> int:
        """Files removed within the window."""
        while self._removed and self._removed[0][0] <= now - self.limits.window_s:
            self._removed.popleft()
        return sum(count for _, count in self._removed)

    def suspicious(self, count: int, now: float) -> bool:
        """True when `count` more removals are enough to look at how many files are left."""
        return self._armed(now) and self.removed(now) + count >= self.limits.least

    def enough(self, count: int, now: float) -> int:
        """So many files make `count` more removals harmless: no need to count further."""
        return int((self.removed(now) + count) / self.limits.share) + 1

    def tripped(self, count: int, remaining: int, now: float) -> bool:
        """True when `count` more removals, of `remaining` files that are there now, must be held."""
        if not self._armed(now):
            return False
        gone = self.removed(now)
        total = gone + max(remaining, count)
        return gone + count >= self.limits.least and gone + count > self.limits.share * total

    def emptied(self, count: int, now: float) -> bool:
        """True when `count` removals that leave a root without any entry must be held: a lone file may come and go."""
        return self._armed(now) and self.removed(now) + count > 1

    def note(self, count: int, now: float) -> None:
        """Counts removals that were let through."""
        if count:
            self._removed.append((now, count))

    def release(self, now: float) -> None:
        """Someone said that the removals are meant: those of one more window are let through."""
        self._removed.clear()
        self._free_until = now + self.limits.window_s

    def _armed(self, now: float) -> bool:
        return self.limits.on and now >= self._free_until
