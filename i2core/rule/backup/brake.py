"""The mass-delete brake: a pure decision on how many files went within a window, and how many are left.

What comes back under its name within the window was replaced, not lost: a directory that a build makes anew, a file
that is removed and written again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from i2core.wire.messages import BrakeLimits

NAMED = 100_000
"""Removals of a window that are remembered by name; further ones are only counted."""

Path = tuple[int, bytes]
"""Root index and path."""


class DeleteWindow:
    """Removals of the last `window_s` seconds. Times are seconds of any monotonic clock."""

    def __init__(self, limits: BrakeLimits) -> None:
        self.limits = limits
        self._removed: OrderedDict[Path | int, tuple[float, int]] = OrderedDict()
        self._sum = 0
        self._unnamed = 0
        self._free_until = 0.0

    def removed(self, now: float) -> int:
        """Files removed within the window and not come back."""
        while self._removed:
            key, (at, count) = next(iter(self._removed.items()))
            if at > now - self.limits.window_s:
                break
            del self._removed[key]
            self._sum -= count
        return self._sum

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

    def note(self, removals: Mapping[Path, int], now: float) -> None:
        """Counts removals that were let through: so many files at each path."""
        for path, count in removals.items():
            self.came_back(path)
            key: Path | int = path
            if len(self._removed) >= NAMED:
                self._unnamed += 1
                key = self._unnamed
            self._removed[key] = (now, count)
            self._sum += count

    def came_back(self, path: Path) -> None:
        """An object of that name was made: its removal was half of a replacement."""
        known = self._removed.pop(path, None)
        if known is not None:
            self._sum -= known[1]

    def release(self, now: float) -> None:
        """Someone said that the removals are meant: those of one more window are let through."""
        self._removed.clear()
        self._sum = 0
        self._free_until = now + self.limits.window_s

    def _armed(self, now: float) -> bool:
        return self.limits.on and now >= self._free_until
