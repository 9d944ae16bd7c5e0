"""Jobs: a worker thread turns some hundred marks at a time into records."""

from __future__ import annotations

import time
from typing import NamedTuple

import trio

from i2core.api import Failure
from i2core.rule.catalog.rows import Doubt
from i2core.rule.live.backlog import Backlog
from i2core.rule.live.output import Outcome
from i2core.rule.live.reconcile import Reconciler
from i2core.rule.outgoing.outgoing import Outgoing
from i2core.rule.source.source import Source
from i2core.wire.batch import EncodedBatch

MARKS = 512


class Made(NamedTuple):
    """The numbered records of a job. The catalog notes them as sent already."""

    batches: list[EncodedBatch]
    outcome: Outcome
    found: list[tuple[Doubt, Failure]]
    """The doubts of failures that only the catalog could place."""


class Jobs:
    """Processes the backlog's marks."""

    def __init__(self, source: Source, backlog: Backlog, outgoing: Outgoing, reconciler: Reconciler) -> None:
        self._source = source
        self._backlog = backlog
        self._outgoing = outgoing
        self._reconciler = reconciler

    async def run(self) -> Made:
        """Station 3: takes some hundred marks, has a worker thread make records of them, and keeps these.

        A job takes some milliseconds. Switching to the thread costs fifty microseconds, too much for a single mark.

        There is no checkpoint between the thread's return and the keeping of its records. The case that breaks with
        one: the thread has committed the catalog, which says that these records were sent. The link breaks in another
        task, and this task is cancelled at the checkpoint. The records are lost, and nobody compares these places
        again."""
        dirty, work = self._backlog.dirty, self._backlog.in_work
        work.marks.extend(dirty.take(MARKS - len(work.marks)))
        work.look()
        waiting = [since for since in (work.oldest_ns, dirty.oldest_ns) if since is not None]
        made = await trio.to_thread.run_sync(self._make, min(waiting, default=time.monotonic_ns()))
        self._backlog.parked.add(made.outcome.large)
        for batch in made.batches:
            self._outgoing.keep(batch, made.outcome.since_ns, made.outcome.doubts)
        self._backlog.unverified.found(made.found)
        work.look()
        return made

    def _make(self, seen_ns: int) -> Made:
        """In the thread: makes records and notes them in the catalog, in one transaction."""
        catalog = self._source.catalog
        # The backup node reports a failure no later than it reports the records after it as durable. So the doubts are
        # saved before those records are dropped.
        durable_seq = self._outgoing.durable_seq
        with catalog.unit():
            found = self._backlog.unverified.save()
            outcome = self._reconciler.job(self._backlog.in_work.marks, seen_ns)
            batches = self._outgoing.seqs.seal(outcome.records)
            for batch in batches:
                catalog.doubts.keep(batch.last_seq, outcome.doubts.values())
            catalog.doubts.drop(durable_seq)
            catalog.memory.note(next_seq=self._outgoing.seqs.next, durable_seq=durable_seq)
        self._source.status.sent_bytes += outcome.content_bytes
        return Made(batches, outcome, found)
