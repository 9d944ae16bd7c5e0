"""Open objects that wait for the next question about them: whoever has read a name reads its neighbour, and whoever has
read a range of a file the next one."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Generic, TypeVar

from i2core.api.tree import Opened

T = TypeVar("T", bound=Opened)


class Idle(Generic[T]):
    """Objects by the numbers of their nodes. One that is taken is its taker's alone, as a tree demands; several of one
    node may be open."""

    def __init__(self, most: int) -> None:
        """`most`: so many are open while nobody uses them."""
        self._most = most
        self._count = 0
        self._waiting: dict[int, list[T]] = {}
        """Those that were given back last are at the end."""
        self._lock = threading.Lock()

    def take(self, node: int) -> T | None:
        """One of the node, for the caller, who gives it back or closes it; None: none waits."""
        with self._lock:
            found = self._waiting.get(node)
            if found is None:
                return None
            self._count -= 1
            taken = found.pop()
            if not found:
                del self._waiting[node]
            return taken

    def give(self, node: int, opened: T) -> None:
        """It is not used for now."""
        with self._lock:
            found = self._waiting.pop(node, [])
            found.append(opened)
            self._waiting[node] = found
            self._count += 1
            spare = self._oldest() if self._count > self._most else None
        if spare is not None:
            spare.close()

    def _oldest(self) -> T:
        node = next(iter(self._waiting))
        self._count -= 1
        spare = self._waiting[node].pop(0)
        if not self._waiting[node]:
            del self._waiting[node]
        return spare

    def close(self) -> None:
        """Closes all that wait."""
        with self._lock:
            waiting, self._waiting, self._count = self._waiting, {}, 0
        for each in (opened for found in waiting.values() for opened in found):
            with suppress(OSError):
                each.close()
