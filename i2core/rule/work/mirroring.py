"""The mirror of a run: compares the whole source with the replica, and notes the result in the catalog."""

from __future__ import annotations

from itertools import islice

import trio

from i2core.api import Channel, Code, Place, StopRule
from i2core.config.model import OrphanAction
from i2core.config.words import bilingual
from i2core.rule.catalog.rows import Doubt
from i2core.rule.life.life import Life
from i2core.rule.life.states import Event
from i2core.rule.live.replication import LiveReplication
from i2core.rule.mirror.making_room import make_room
from i2core.rule.mirror.mirror import mirror
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings, Why
from i2core.rule.survey.lister import Scope
from i2core.rule.work.connector import Connector
from i2core.rule.work.resume import compares_contents, selection
from i2core.rule.work.work_rule import WorkRule

UNLINKED_MOST = 10_000
"""At most so many names are checked one by one because they may have to be linked; if there are more, everything is
compared with the catalog."""
_MAKING_ROOM = {
    OrphanAction.DELETE: bilingual("files that the source does not have are removed first", "先删除源端没有的文件"),
    OrphanAction.MOVE: bilingual("files that the source does not have are moved away first", "先移走源端没有的文件"),
    OrphanAction.KEEP: bilingual(
        "files that became shorter on the source are truncated first; what the source does not have stays",
        "先截短源端已变短的文件；源端没有的文件予以保留",
    ),
}
"""What a mirror does before it starts again on a full replica, in the log's words. With each action it also truncates,
and replaces objects of another type."""
REPLICA_IS_FULL = (Code.REPLICA_FULL, Code.REPLICA_NO_INODES)


class Mirroring:
    """Mirrors a rule. Live replication pauses meanwhile, and forgets its work: the mirror compares everything."""

    def __init__(
        self, work: WorkRule, source: Source, connector: Connector, live: LiveReplication, life: Life, *, once: bool
    ) -> None:
        self._work = work
        self._source = source
        self._connector = connector
        self._live = live
        self._life = life
        self._once = once

    def distrust(self) -> None:
        """Notes that files of the replica may have the right size and time but wrong content, because records were lost
        or failed. Until a mirror is complete, mirrors compare contents, even with `verify = "time"`."""
        self._source.catalog.memory.keep(distrusted=True)

    async def run(self) -> None:
        """Compares everything with the replica. If the replica's disk is full, room is made there first
        (`make_room`), then the mirror starts again.

        Raises:
            LinkError: the link broke.
            StopRule: it cannot be done.
        """
        try:
            await self._mirror_all()
        except StopRule as error:
            if error.code not in REPLICA_IS_FULL:
                raise
            first = _MAKING_ROOM[self._work.rule.orphans.action]
            line = bilingual(
                f"{error.obj}: {error.cause}; {first.en}, then the mirror starts again",
                f"{error.obj}：{error.cause}；{first.zh}，然后重新镜像",
            )
            self._source.say(self._source.rule, error.code, line)
            async with self._connector.open(Channel.MIRROR) as session:
                await make_room(self._source, session, self._roots())
                await session.settle()
            await self._mirror_all()

    def _roots(self) -> list[Scope]:
        return [Scope(Place(root, b"")) for root in range(len(self._source.trees))]

    async def _mirror_all(self) -> None:
        """Mirrors once. Marks from before are forgotten, since the mirror covers them."""
        status, catalog = self._source.status, self._source.catalog
        status.mirrored = status.listing_done = False
        # These figures are of one mirror, without those that were interrupted before it.
        status.listed_files = status.listed_bytes = status.checked_files = status.checked_bytes = 0
        self._life.advance(Event.LISTING_BEGUN)
        await trio.to_thread.run_sync(self._live.forget)
        catalog.memory.note(left_out=False)
        async with self._connector.open(Channel.MIRROR) as session:
            self._life.advance(Event.MIRROR_BEGUN)
            await trio.to_thread.run_sync(self._source.keep_roots)
            strict = compares_contents(catalog.memory.now, self._work.rule.mirror)
            findings = await mirror(self._source, session, self._roots(), strict=strict)
            await session.settle()
        self._live.doubt(await trio.to_thread.run_sync(self._left_unverified, findings))
        if not self._once:
            # Live replication looks up each new object by its inode number, so each object needs a row of its own.
            await trio.to_thread.run_sync(catalog.listings.expand_all)
        await self._mark_unlinked()
        self._conclude()

    async def _mark_unlinked(self) -> None:
        """Has names checked that may have to be linked to others: a link may be made while the mirror lists its file,
        and its report may be lost."""
        dirty, unlinked = self._live.backlog.dirty, self._source.catalog.names.unlinked()
        places = await trio.to_thread.run_sync(list, islice(unlinked, UNLINKED_MOST + 1))
        if len(places) > UNLINKED_MOST:
            dirty.add_places((scope.place for scope in self._roots()), tree=True)
        else:
            dirty.add_places(places)

    def _conclude(self) -> None:
        """From now on a restart may rely on the catalog. What is unverified is written by the same commit: after a
        crash between two commits, a replica that differs would count as mirrored."""
        catalog = self._source.catalog
        found = self._live.backlog.unverified.save()
        selected = selection(self._work.rule, self._work.epoch)
        catalog.memory.note(mirrored=True, selection=selected, distrusted=False, seed_checked=True)
        catalog.commit()
        self._live.backlog.unverified.found(found)
        self._source.status.mirrored = True
        self._life.advance(Event.MIRROR_DONE)

    def _left_unverified(self, findings: Findings) -> list[Doubt]:
        """What is unverified after a mirror: objects that it could not compare because they were moving, and names that
        were removed on the source before the mirror began, perhaps not on the replica. Names from which objects moved
        away matter only if orphans are deleted; otherwise the replica keeps such names anyway."""
        doubts, reasons = self._source.catalog.doubts, [Why.APPEARED, Why.UNREADABLE]
        if self._work.rule.orphans.action is OrphanAction.DELETE:
            reasons.append(Why.MOVED_AWAY)
        return [*findings.doubts(*reasons), *(doubts.at(place) for place in doubts.take_owed())]
