"""Where connections wait until they have shown who they are: bounded in number, time and words.

Whoever can reach the port can open connections, so none of this may cost a trusted peer anything. A handshake takes
milliseconds, a connection that only sits there takes the whole time limit: when the lobby is full, the one that has
been there longest goes. A flood must bring `capacity` connections within one honest handshake to be noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio


class Lobby:
    """Holds at most `capacity` connections, each for at most `stay_s` seconds."""

    def __init__(self, capacity: int, stay_s: float) -> None:
        self._capacity = capacity
        self._stay_s = stay_s
        self._waiting: dict[trio.CancelScope, None] = {}

    @contextmanager
    def stay(self) -> Iterator[None]:
        """Bounds what is done inside: it is cancelled at the time limit, or when its place is needed."""
        if len(self._waiting) >= self._capacity:
            oldest = next(iter(self._waiting))
            del self._waiting[oldest]
            oldest.cancel()
        with trio.move_on_after(self._stay_s) as scope:
            self._waiting[scope] = None
            try:
                yield
            finally:
                self._waiting.pop(scope, None)


class RefusalLog:
    """Says who was turned away: each address once in a window, and only so many addresses, whatever comes in."""

    WINDOW_S = 60.0
    ADDRESSES = 16

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._window_ends = 0.0
        self._said: set[str] = set()
        self._unsaid = 0

    def refused(self, address: str, why: str) -> None:
        """One line for the logbook, or one more for the count that the next window begins with."""
        now = trio.current_time()
        if now >= self._window_ends:
            if self._unsaid:
                self._say(f"{self._unsaid} more connections were refused since the last such line")
            self._window_ends = now + self.WINDOW_S
            self._said.clear()
            self._unsaid = 0
        if address in self._said or len(self._said) >= self.ADDRESSES:
            self._unsaid += 1
            return
        self._said.add(address)
        self._say(f"connection from {address} refused: {why}")
