"""Sends the records of jobs over one session."""

from __future__ import annotations

import stat
import time

import trio

from i2core.api import Kind, Place, Record
from i2core.rule.live.backlog import Backlog
from i2core.rule.outgoing.ledger import Doubts
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.source.source import Source
from i2core.wire.batch import EncodedBatch
from i2core.wire.frame import SMALL_BYTES
from i2core.wire.session import Session


class Sender:
    """Sends batches over one session, except large files and repairs. All batches were kept before."""

    def __init__(self, source: Source, backlog: Backlog, outgoing: Outgoing, session: Session) -> None:
        self._source = source
        self._backlog = backlog
        self._outgoing = outgoing
        self._session = session

    async def send(self, batches: list[EncodedBatch], sent: trio.Event | None = None) -> None:
        """Station 6: codecs, then the window, then the wire. Batches are sent one after the other, in seq order; `sent`
        is set after the last.

        Raises:
            LinkError: the link broke.
        """
        for batch in batches:
            small = len(batch.raw) <= SMALL_BYTES
            encode = self._session.encode
            packed = encode(batch) if small else await trio.to_thread.run_sync(encode, batch)
            await self._session.send(packed)
        if sent is not None:
            sent.set()

    async def send_unsent(self) -> None:
        """Sends the records of the last job, while no other job runs."""
        await self.send(self._backlog.unsent.take())

    async def send_again(self, applied_seq: int) -> None:
        """Sends again the batches that were kept and are not applied, under their old seqs. Unused seqs are declared
        void."""
        session, seq = self._session, applied_seq
        while (batch := await trio.to_thread.run_sync(self._outgoing.outbox.after, seq)) is not None:
            await session.skip_to(batch.first_seq)
            await session.send(await trio.to_thread.run_sync(session.encode, batch))
            seq = batch.last_seq
        await session.skip_to(self._outgoing.seqs.next)

    # ------------------------------------------------------------------------------------------ staging files

    async def look_at_staging(self) -> None:
        """Checks again the files that were being staged; removes the staging files of those that are gone."""
        for place in list(self._source.catalog.staging.places):
            entry = await trio.to_thread.run_sync(self._source.trees[place.root].lookup, place.path)
            if entry is None or not stat.S_ISREG(entry.mode):
                await self._unstage(place)
            self._backlog.dirty.add_places([place], content=True)

    async def leave_no_staging(self) -> None:
        """While no transfer is running: removes the staging files of abandoned transfers. Their names may be gone, so
        nothing else would find them."""
        for place in list(self._source.catalog.staging.places):
            await self._unstage(place)

    async def _unstage(self, place: Place) -> None:
        doubt = await trio.to_thread.run_sync(self._source.catalog.doubts.at, place)
        # No checkpoint from here until the record is kept: nothing else would remove the file.
        self._source.catalog.staging.end(place)
        self._backlog.directories.touch(place)
        batches = self._outgoing.seqs.seal([Record(Kind.REMOVE, place.root, place.path, staged=True)])
        about: Doubts = {(place, doubt.node): doubt}
        for batch in batches:
            self._outgoing.keep(batch, time.monotonic_ns(), about)
        await self.send(batches)
