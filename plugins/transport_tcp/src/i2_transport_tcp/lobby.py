"""Logs refused connections, with a limit, so that refused peers cannot fill the log."""

from __future__ import annotations

from collections.abc import Callable

import trio


class RefusalLog:
    """Logs each refused address or known peer once in a window, and only a limited number of addresses."""

    WINDOW_S = 60.0
    ADDRESSES = 16

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._window_ends = 0.0
        self._said: set[str] = set()
        self._unlogged = 0

    def refused(self, address: str, why: str, *, known: str = "") -> None:
        """Logs one line, or adds one to the count that is logged when the next window begins. `known`: the name of a
        peer that this node knows; a stranger from the same address does not hide its line."""
        now = trio.current_time()
        if now >= self._window_ends:
            if self._unlogged:
                self._say(f"{self._unlogged} more connections were refused since the last such line")
            self._window_ends = now + self.WINDOW_S
            self._said.clear()
            self._unlogged = 0
        who = known or address
        if who in self._said or len(self._said) >= self.ADDRESSES:
            self._unlogged += 1
            return
        self._said.add(who)
        self._say(f"connection from {address} refused: {why}")
