"""Handles confirmed orphans as the rule says: keeps them, removes them, or moves them to a separate directory."""

from __future__ import annotations

from i2core.api import Channel, Kind, Place, Record
from i2core.api.changes import join
from i2core.posix.path_text import as_path
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.mass_delete import MassDeleteGate
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.rule.backup.session.writer import PATH_COST, PLACES_BYTES, ReplicaWriter
from i2core.wire.message_size import parts
from i2core.wire.messages import Hello, OrphanPolicy
from i2core.wire.questions import OrphanList


class OrphanKeeper:
    """Carries out the rule's policy."""

    def __init__(
        self, hello: Hello, replica: Replica, roots: SessionRoots, writer: ReplicaWriter, gate: MassDeleteGate
    ) -> None:
        self._policy: OrphanPolicy = hello.orphans
        self._mirrors = hello.channel == Channel.MIRROR.value
        self._replica = replica
        self._roots = roots
        self._writer = writer
        self._gate = gate

    async def treat(self, orphans: OrphanList) -> None:
        """Handles orphans that the work node has confirmed; removals pass the brake.

        Raises:
            StopRule: nothing more can be applied.
            LinkError: the link broke while they were held.
        """
        places = [self._roots.checked(Place(orphans.root, join(orphans.path, name))) for name in orphans.names]
        self._replica.counters.orphans += len(places)
        if self._mirrors:
            # A listing names the orphans of a directory only if they are few (`Leftovers`); here all of them arrive.
            await self._writer.unstage(places)
        if self._policy.action == "keep":
            return
        records = [Record(Kind.REMOVE, place.root, place.path) for place in places]
        await self._gate.let_through(records)
        if self._policy.action == "delete":
            await self._remove(records)
        elif self._policy.to:
            for place in places:
                await self._writer.set_aside(place, as_path(self._policy.to))
        self._writer.unflushed.note()

    async def _remove(self, records: list[Record]) -> None:
        # A few at a time: each failure takes memory for its path, and is reported before the next ones are tried.
        for some in parts(records, lambda record: len(record.path) + PATH_COST, most_size=PLACES_BYTES):
            done = await self._writer.apply_own(some)
            for failure in done.failures:
                self._replica.say(failure.code, failure.message)
