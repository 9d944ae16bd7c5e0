"""Limits repeated log lines: a failing link or disk must not fill the disk with its own messages."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs

BURST = 20
"""Lines of one key that pass in one window."""
WINDOW_S = 60.0

Key = tuple[str, int | None]
"""A rule's name and the number of a code."""


@attrs.define
class _Window:
    began_s: float
    count: int = 0
    left_out: int = 0


@attrs.define
class RepeatLimit:
    """Lets `BURST` lines of one key through in `WINDOW_S` seconds, and counts the rest."""

    clock: Callable[[], float] = time.monotonic
    _windows: dict[Key, _Window] = attrs.field(factory=dict, init=False)

    def admit(self, key: Key) -> bool:
        """Whether a line of `key` may pass now."""
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(self.clock())
        if window.count >= BURST:
            window.left_out += 1
            return False
        window.count += 1
        return True

    def ended(self, *, all_of_them: bool = False) -> list[tuple[Key, int]]:
        """The keys whose windows ended, with the number of suppressed lines, if any. Each is returned once. Keys are
        dropped with their windows, so that invented names from a peer do not use memory for long."""
        now = self.clock()
        over = [key for key, window in self._windows.items() if all_of_them or now - window.began_s >= WINDOW_S]
        windows = [(key, self._windows.pop(key)) for key in over]
        return [(key, window.left_out) for key, window in windows if window.left_out]
