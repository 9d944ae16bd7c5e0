"""The private directory in a root itself: kept from record to record, and removed when work pauses.

Creating and removing the directory for each record would cost more than the record. So a batch leaves it, and the flush
that makes the batch durable removes it (also the session's end, and the next start after a crash).

A flush may run while a batch is applied, also a batch of another sink: a rule has a sink for each channel. Without the
lock, the flush would remove the directory between two steps of the batch that is about to use it:

    batch                                flush
    finds the private directory
                                         finds it empty, removes it
    makes new-… in it: ENOENT

The flush would also restore the times that the root had before a record changed them. So a call that may use the
directory holds its lock, and a flush that finds the lock taken does nothing: another flush follows each batch.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from weakref import WeakValueDictionary


class Home:
    """The private directories of one root, as all sinks of this process know them: what one sink stages, a record
    that another one applies may remove."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        """Held by each call that uses or removes it."""
        self.made = True
        """It may be there: made by a sink of this process, or left by a killed one."""
        self.stages = True
        """Staging files, or their directories, may be in it."""
        self.nested: set[bytes] = set()
        """Paths of directories beneath the root that may have a private directory of their own."""
        self.removal_on: int | None = None
        """The file system on which its removal must become durable. The next flush of any sink does that: the sink that
        removed it may be closed by then, and the batch that had made it may have been synced before."""

    def found(self) -> None:
        """Notes that it exists. If that was not known, its contents are not known either."""
        if not self.made:
            self.made = self.stages = True


class Homes:
    """The private directories in the roots of one process. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: WeakValueDictionary[bytes, Home] = WeakValueDictionary()

    def of(self, names: Sequence[bytes]) -> list[Home]:
        """Those with these names; a name is unique in a process."""
        with self._guard:
            return [self._known.setdefault(name, Home()) for name in names]


class InUse:
    """A context manager for calls that may use these private directories: meanwhile nobody removes them."""

    def __init__(self, homes: Sequence[Home]) -> None:
        # In one order, so that no two calls wait for each other.
        self._locks = [home.busy for home in sorted(set(homes), key=id)]

    def __enter__(self) -> None:
        for lock in self._locks:
            lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lock in self._locks:
            lock.release()
