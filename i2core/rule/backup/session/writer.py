"""The only class that changes a replica.

Nothing else on the backup node calls the changing methods of a sink. So the history of the replica, which must know
each change before it happens, is attached in one place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from i2core.api import Applied, Batch, Kind, Place, Record, Sink
from i2core.rule.backup.replica.recording import Recording
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.wire.message_size import parts

if TYPE_CHECKING:
    from i2core.history.record.history import History

PLACES_BYTES = 1 << 20
"""Most bytes of paths passed to the sink at once, each counted with `PATH_COST`."""
PATH_COST = 256
"""Memory that a failed record takes in addition to its path."""


class ReplicaWriter:
    """Changes one replica, for one session."""

    def __init__(self, sink: Sink, unflushed: Unflushed, recording: Recording | None = None) -> None:
        """`recording`: of the replica's history; None: it never has one."""
        self._sink = sink
        self._recording = recording
        self.unflushed = unflushed
        """Set by the callers when a unit of work is complete."""

    @property
    def _history(self) -> History | None:
        return None if self._recording is None else self._recording.current

    async def apply(self, batch: Batch) -> Applied:
        """As `Sink.apply`: records of the work node."""
        history = self._history
        if history is None:
            return await self._sink.apply(batch)
        return await history.recorder.apply(self._sink, batch.first_seq, batch.records)

    async def apply_own(self, records: Sequence[Record]) -> Applied:
        """As `Sink.apply`: records made by this node, with seqs that no work node ever uses."""
        return await self.apply(Batch(1 - len(records), records))

    async def set_aside(self, place: Place, destination: bytes) -> None:
        """As `Sink.set_aside`. A replica with a history keeps the object as well: it is copied, and then removed."""
        history = self._history
        if history is None:
            await self._sink.set_aside(place, destination)
            return
        await self._sink.copy_aside(place, destination)
        await self.apply_own([Record(Kind.REMOVE, place.root, place.path)])

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        """As `Sink.tidy`."""
        async with self._at_rest():
            return await self._sink.tidy(place, staged)

    async def unstage(self, places: Sequence[Place]) -> None:
        """As `Sink.unstage`, however many places there are."""
        for some in parts(places, lambda place: len(place.path) + PATH_COST, most_size=PLACES_BYTES):
            async with self._at_rest():
                await self._sink.unstage(some)

    async def drop_staged(self, roots: int) -> None:
        """Removes all staging files of so many roots, durably."""
        await self.unstage([Place(root, b"") for root in range(roots)])
        await self._sink.flush()

    @asynccontextmanager
    async def _at_rest(self) -> AsyncIterator[None]:
        """No moment shows a staging file, so its end is no record. But a plan that is being carried out may need it."""
        async with AsyncExitStack() as stack:
            if self._recording is not None and self._recording.current is not None:
                history = await stack.enter_async_context(self._recording.held())
                assert history is not None
                await stack.enter_async_context(history.recorder.certain())
            yield
