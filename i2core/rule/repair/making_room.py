"""Makes room on a replica whose disk is full, among the unverified names: what is gone on the source is removed, and
files that are shorter there are truncated. Nothing is sent that takes space.

The pass over the catalog (`live.room`) cannot find these: the catalog does not know what the replica has there. The
case that breaks without it: a mirror could not read `d`, so all of `d` is unverified. The repair of `d` sends its new
files and removes at its end what only the replica has there. The new files fill the disk, the rule stops, and each
start does the same again.

So this pass goes as far as the repair after it: through all of a directory that is unverified with everything beneath,
else no farther than the names themselves. A file that is truncated here must be compared by its content afterwards, and
only the repair is certain to do that.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from i2core.api import Kind, Place, Record
from i2core.api.changes import join
from i2core.api.tree import OpenDirectory
from i2core.rule.mirror.bring import Link
from i2core.rule.mirror.making_room import Room, make_room
from i2core.rule.repair.leftovers import Leftovers
from i2core.rule.repair.plan import RepairPlan
from i2core.rule.repair.repair import remove_gone, send
from i2core.rule.source.source import Source
from i2core.wire.questions import OrphanList


async def make_room_among(source: Source, session: Link, plan: RepairPlan) -> None:
    """Makes room in the scopes of a plan whose extent is `UNVERIFIED`. Returns when all is sent that removes something
    (not yet durable). The names stay unverified.

    Raises:
        LinkError: the link broke.
        StopRule: a directory cannot be read and the rule says to stop.
    """
    await remove_gone(session, plan)
    await make_room(source, session, plan.scopes, _RepairRoom(source, session, plan))


class _RepairRoom(Room):
    """Removes what the repair would remove later, and handles the same names as orphans, as the rule says."""

    def __init__(self, source: Source, session: Link, plan: RepairPlan) -> None:
        super().__init__(source, session)
        self._leftovers = Leftovers(source.catalog, plan)

    async def dispose(self, orphans: OrphanList) -> None:
        root, path, names = orphans
        removed = set(await trio.to_thread.run_sync(self._leftovers.removed, Place(root, path), names))
        for part in await self._finder.separate(OrphanList(root, path, [name for name in names if name in removed])):
            await send(
                self._session,
                (Record(Kind.REMOVE, part.root, join(part.path, name)) for name in part.names),
            )
        await super().dispose(OrphanList(root, path, [name for name in names if name not in removed]))

    def confirmed(self, directory: OpenDirectory, place: Place, names: Sequence[bytes]) -> list[bytes]:
        """Without names that the catalog knows: the pass over the catalog has removed them, or their objects have moved
        and are to be renamed on the replica."""
        known = self._source.catalog.objects.get
        return [name for name in super().confirmed(directory, place, names) if known(place.child(name)) is None]
