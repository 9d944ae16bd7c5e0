"""Live replication: what the capture marks is reconciled and sent, at once and for as long as the session lives.

dirty set ──▶ reconciler (worker thread) ──▶ session
              large files go in slices between the jobs, so a hot or huge one holds nobody up
              what the backup node could not apply is compared again there
"""

from __future__ import annotations

import time
from collections import deque

import trio

from i2core.api import Failure, Place
from i2core.pipeline.tree import GONE
from i2core.rule.content import SLICE_BYTES, Transfer
from i2core.rule.dirty import DirtySet, Mark
from i2core.rule.drafting import Large
from i2core.rule.mirror import Mirror, Scope
from i2core.rule.reconcile import Outcome, Reconciler
from i2core.rule.source import Source
from i2core.tasks import background
from i2core.wire.session import Packed, Session

SETTLE_S = 0.001
"""A created file is usually written at once: looking a moment later sends it once instead of twice."""
MARKS = 512
QUIET_FACTOR = 10
"""A growing large file sends its tail at once; the whole is compared again after so many times what that took."""
SUSPECTS = 20_000
"""Places remembered by name until they are durable; above it their roots are compared instead."""


class Suspects:
    """Places whose records are sent and not yet durable: compared again if the link breaks before they are."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, int, tuple[Place, ...]]] = deque()
        self._count = 0
        self._carried: set[Place] = set()
        self.everything = False

    def sent(self, last_seq: int, since_ns: int, places: tuple[Place, ...]) -> None:
        """Records about `places` went out; `since_ns` is when the first of them changed."""
        self._sent.append((last_seq, since_ns, places))
        self._count += len(places)

    def durable(self, seq: int) -> None:
        """Everything up to `seq` is safe."""
        while self._sent and self._sent[0][0] <= seq:
            self._count -= len(self._sent.popleft()[2])

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest change that is sent and not durable happened."""
        return self._sent[0][1] if self._sent else None

    def carry(self, places: list[Place]) -> None:
        """The session is over: what was on its way is no longer certain."""
        if self._count + len(self._carried) > SUSPECTS:
            self.everything = True
            self._carried.clear()
        elif not self.everything:
            for _, _, sent in self._sent:
                self._carried.update(sent)
            self._carried.update(places)
        self._sent.clear()
        self._count = 0

    def doubt(self, place: Place) -> None:
        """The replica is not as the catalog says."""
        self._carried.add(place)

    def take(self) -> set[Place]:
        """The uncertain places of earlier sessions, for the caller to compare now."""
        carried, self._carried = self._carried, set()
        return carried


class Live:
    """Replicates over one session. `suspects` and the catalog outlive it."""

    def __init__(
        self, source: Source, session: Session, dirty: DirtySet, reconciler: Reconciler, suspects: Suspects
    ) -> None:
        self._source = source
        self._session = session
        self._dirty = dirty
        self._reconciler = reconciler
        self._suspects = suspects
        self._marks: deque[Mark] = deque()
        self._transfers: deque[Transfer] = deque()
        self._repairs: dict[Place, None] = {}
        self._compared: dict[Place, tuple[float, float]] = {}
        self._again: dict[Place, float] = {}
        self._pending: tuple[Packed, int, tuple[Place, ...]] | None = None
        self._woken = trio.Event()

    def failed(self, failures: list[Failure]) -> None:
        """The backup node could not apply records."""
        for failure in failures:
            if failure.repair:
                self._repairs[failure.place] = None
            else:
                shown = self._source.show(failure.place)
                self._source.status.skip(shown, failure.code, failure.message)
                self._source.say(self._source.rule, failure.code, f"{shown}: {failure.message}")
        self._woken.set()

    async def run(self, *, until_quiet: bool = False) -> None:
        """Sends what changes, until cancelled; with `until_quiet` until nothing is waiting.

        Raises:
            LinkError: the link broke; `suspects` knows what was on its way.
        """
        try:
            while True:
                if not self._busy:
                    if until_quiet:
                        return
                    await self._wait()
                if len(self._dirty) < MARKS:
                    await trio.sleep(SETTLE_S)
                self._marks.extend(self._dirty.take(MARKS - len(self._marks)))
                await self._round()
        finally:
            places = [mark.place for mark in self._marks]
            places += [transfer.place for transfer in self._transfers]
            places += [*self._repairs, *self._again]
            if self._pending is not None:
                places += self._pending[2]
            for transfer in self._transfers:
                transfer.close()
            self._suspects.carry(places)

    @property
    def _busy(self) -> bool:
        waiting = self._dirty or self._marks or self._transfers or self._repairs or self._pending
        return bool(waiting) or self._reconciler.walking

    async def _wait(self) -> None:
        """Until something is to do."""
        self._woken = trio.Event()
        until = min(self._again.values(), default=trio.current_time() + 3600)
        with trio.move_on_at(until):
            async with background() as nursery:
                nursery.start_soon(self._wake_when_dirty)
                await self._woken.wait()
        due = [place for place, at in self._again.items() if at <= trio.current_time()]
        for place in due:
            del self._again[place]
        self._dirty.add_places(due, content=True)

    async def _wake_when_dirty(self) -> None:
        await self._dirty.wait()
        self._woken.set()

    async def _round(self) -> None:
        """One job, with the batch before it being sent meanwhile; then one slice of a large file, then repairs."""
        since = min((mark.since_ns for mark in self._marks), default=time.monotonic_ns())
        async with background() as nursery:
            sent = trio.Event()
            nursery.start_soon(self._send_pending, sent)
            outcome, packed = await trio.to_thread.run_sync(self._job)
            await sent.wait()
        if packed is not None:
            self._pending = (packed, since, tuple(outcome.places))
        for large in outcome.large:
            self._queue(large)
        if not (self._dirty or self._marks or self._reconciler.walking) or self._transfers or self._repairs:
            await self._send_pending(trio.Event())
        if self._transfers:
            await self._step()
        if self._repairs:
            await self._repair()

    def _job(self) -> tuple[Outcome, Packed | None]:
        outcome = self._reconciler.job(self._marks)
        self._source.status.sent_bytes += outcome.content_bytes
        return outcome, self._session.pack(outcome.records) if outcome.records else None

    async def _send_pending(self, sent: trio.Event) -> None:
        if self._pending is not None:
            packed, since, places = self._pending
            await self._session.send(packed)
            self._suspects.sent(packed.last_seq, since, places)
            self._pending = None
        sent.set()

    # ------------------------------------------------------------------------------------------ large files

    def _queue(self, large: Large) -> None:
        """A large file joins the round, unless it is in it already: then it is looked at once more afterwards."""
        place, entry, whole = large
        now = trio.current_time()
        if any(transfer.place == place for transfer in self._transfers):
            self._again[place] = now
            return
        first = 0
        row = self._source.catalog.get(place)
        if not whole and row is not None and entry.size > row.size > SLICE_BYTES:
            compared, took = self._compared.get(place, (-1e9, 0.0))
            due = compared + took * QUIET_FACTOR
            if now < due:
                first = row.size
                self._again[place] = due
        self._transfers.append(Transfer(self._source, self._session, place, whole=whole, trust=True, first=first))
        if not first:
            self._compared[place] = (now, 0.0)

    async def _step(self) -> None:
        transfer = self._transfers.popleft()
        begun = trio.current_time()
        try:
            await transfer.step()
        except OSError as error:
            transfer.close()
            if error.errno not in GONE:
                self._source.unreadable(transfer.place, error)
            return
        except BaseException:
            self._transfers.append(transfer)
            raise
        if transfer.place in self._compared:
            at, took = self._compared[transfer.place]
            self._compared[transfer.place] = (at, took + trio.current_time() - begun)
        self._suspects.sent(self._session.last_sent, time.monotonic_ns(), (transfer.place,))
        if transfer.done:
            transfer.close()
            self._source.status.sent_files += 1
            if len(self._compared) > MARKS:
                self._compared.pop(next(iter(self._compared)))
            # Changes that came while it was under way have marks of their own, or are seen by this second look.
            self._dirty.add_places([transfer.place])
        else:
            self._transfers.append(transfer)

    # ------------------------------------------------------------------------------------------ repair

    async def _repair(self) -> None:
        """Compares the directories of failed records with the backup node."""
        places, self._repairs = self._repairs, {}
        await compare_places(self._source, self._session, set(places))


async def compare_places(source: Source, session: Session, places: set[Place]) -> None:
    """Compares the directories of these places strictly with the replica, and mends what differs."""
    scopes = {Place(place.root, nearest(source, place)) for place in places}
    if scopes:
        mirror = Mirror(source, session, orphans=False, strict=True)
        await mirror.run(Scope(place, deep=False) for place in sorted(scopes))


def nearest(source: Source, place: Place) -> bytes:
    """The directory of a place, or the nearest above it that the replica is known to have."""
    path = place.path.rpartition(b"/")[0]
    while path and source.catalog.get(Place(place.root, path)) is None:
        path = path.rpartition(b"/")[0]
    return path
