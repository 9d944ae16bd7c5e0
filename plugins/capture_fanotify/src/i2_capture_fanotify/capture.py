"""`FanotifyCapture`: one rule's part of the `Station` that all rules of this process share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from i2_capture_fanotify.config import FanotifyConfig
from i2_capture_fanotify.fanotify import Group
from i2_capture_fanotify.listener import Listener
from i2_capture_fanotify.station import Station, join, leave
from i2core.api import Capture, CaptureContext, Change, Lost


class FanotifyCapture(Capture):
    """Watches while the context is open; `changes` may be cancelled and called again."""

    def __init__(self, config: FanotifyConfig, context: CaptureContext, group: Group | None = None) -> None:
        """Marks the file systems. `group`: a separate one instead of the shared one. Call it within trio.

        Raises:
            StopRule: a root is missing, or cannot be watched.
            OSError: the system lacks memory or descriptors.
        """
        self._listener = Listener(context)
        if group is None:
            self._station = join(self._listener, config.cached_directories)
        else:
            self._station = Station(group)
            self._station.join(self._listener, config.cached_directories)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        leave(self._station, self._listener)

    def unread(self) -> bool:
        return self._station.unread(self._listener)

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Batches as the kernel returns them. Changes that were not fetched wait here or in the kernel, also after a
        cancellation."""
        while True:
            yield await self._station.fetch(self._listener)
