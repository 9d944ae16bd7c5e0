"""The only class that changes a replica.

Nothing else on the backup node calls the changing methods of a sink. So a feature that must see every change of a
replica before it happens, such as a history of overwritten content, has one place to attach to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from i2core.api import Applied, Batch, Place, Record, Sink
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.wire.message_size import parts

PLACES_BYTES = 1 << 20
"""Most bytes of paths passed to the sink at once, each counted with `PATH_COST`."""
PATH_COST = 256
"""Memory that a failed record takes in addition to its path."""


class ReplicaWriter:
    """Changes one replica, for one session."""

    def __init__(self, sink: Sink, unflushed: Unflushed) -> None:
        self._sink = sink
        self.unflushed = unflushed
        """Set by the callers when a unit of work is complete."""

    async def apply(self, batch: Batch) -> Applied:
        """As `Sink.apply`: records of the work node."""
        return await self._sink.apply(batch)

    async def apply_own(self, records: Sequence[Record]) -> Applied:
        """As `Sink.apply`: records made by this node, with seqs that no work node ever uses."""
        return await self._sink.apply(Batch(1 - len(records), records))

    async def set_aside(self, place: Place, destination: bytes) -> None:
        """As `Sink.set_aside`."""
        await self._sink.set_aside(place, destination)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        """As `Sink.tidy`."""
        return await self._sink.tidy(place, staged)

    async def unstage(self, places: Sequence[Place]) -> None:
        """As `Sink.unstage`, however many places there are."""
        for some in parts(places, lambda place: len(place.path) + PATH_COST, most_size=PLACES_BYTES):
            await self._sink.unstage(some)

    async def drop_staged(self, roots: int) -> None:
        """Removes all staging files of so many roots, durably."""
        await self._sink.unstage([Place(root, b"") for root in range(roots)])
        await self._sink.flush()
