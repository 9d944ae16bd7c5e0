"""Sends the differences that a survey found: turns the answers into steps (`steps.StepMaker`) and carries them out.

    survey ──answers──▶ step maker (worker thread) ──steps──▶ sender ──BATCH──▶ backup node

Records are collected in batches; the next batch is made while the previous one is being sent. Large files, names that
only the replica has, and directories whose names take several pages have messages of their own. Before such a message
all earlier records are sent, and the maker waits, so that a directory's attributes are set last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import trio

from i2core.api import Record
from i2core.posix.errnos import GONE
from i2core.rule.mirror.orphans import OrphanFinder
from i2core.rule.mirror.shared import is_shared
from i2core.rule.mirror.steps import BringPolicy, Pages, Special, Step, StepMaker
from i2core.rule.source.draft import Large, content_bytes
from i2core.rule.source.source import Source
from i2core.rule.source.transfer import BatchSender, Task, Transfer
from i2core.rule.survey.findings import Findings
from i2core.rule.survey.lister import Scope
from i2core.rule.survey.survey import Questions, Survey
from i2core.tasks import background
from i2core.wire.batch import WireBatch
from i2core.wire.message_size import Fill
from i2core.wire.questions import OrphanList


class Link(Questions, BatchSender, Protocol):
    """The parts of a session that bringing needs."""

    async def send_records(self, records: Sequence[Record]) -> int:
        """Packs and sends a few records; returns the last seq."""


async def bring(
    source: Source, session: Link, scopes: Iterable[Scope], policy: BringPolicy, findings: Findings, *, strict: bool
) -> None:
    """Surveys the scopes and sends the differences; returns when all records are sent (not yet durable).

    Raises:
        LinkError: the link broke; run again.
        StopRule: an unreadable file, and the rule says to stop.
    """
    survey = Survey(source, session, findings, strict=strict)
    finder = OrphanFinder(source, session)
    maker = StepMaker(source, policy, findings, finder)
    sender = Sender(source, session, maker, finder, survey.turn)
    try:
        todo = list(scopes)
        while todo:
            policy.non_recursive = {scope.place for scope in todo if not scope.deep}
            async with survey.frames(todo) as frames:
                async for frame in frames:
                    answers = await frame.verdicts()
                    # Closed here, not when its memory is freed: it holds a directory open.
                    with contextlib.closing(maker.steps(frame.chunks, answers)) as steps:
                        await sender.carry_out(steps)
                await sender.send_pending()
            # Directories that the replica lacks, and of which only the name was surveyed, are surveyed with all
            # beneath.
            todo = policy.next_round([Scope(place) for place in maker.dirs_to_add])
            maker.dirs_to_add.clear()
    finally:
        survey.close()


class _Filled(NamedTuple):
    """The output of one worker job: a batch, and steps to be done after it by other messages."""

    packed: list[WireBatch]
    special: Special | None
    exhausted: bool


class Sender:
    """Carries steps out over a session."""

    def __init__(
        self, source: Source, session: Link, maker: StepMaker, finder: OrphanFinder, turn: trio.CapacityLimiter
    ) -> None:
        self._source = source
        self._session = session
        self._maker = maker
        self._finder = finder
        self._turn = turn
        self._pending: list[WireBatch] = []

    async def carry_out(self, steps: Iterator[Step]) -> None:
        """Carries out all steps. The last batch stays pending; it is sent while the next one is made.

        Raises:
            LinkError: the link broke.
        """
        while True:
            async with background() as nursery:
                sent = trio.Event()
                nursery.start_soon(self._send_and_tell, sent)
                filled = await trio.to_thread.run_sync(self._fill, steps, limiter=self._turn)
                await sent.wait()
            self._pending, special = filled.packed, filled.special
            if special is not None and not (isinstance(special, Large) and self._maker.policy.takes(special)):
                await self.send_pending()
                await self._send_special(special)
            if filled.exhausted:
                return

    async def _send_and_tell(self, sent: trio.Event) -> None:
        await self.send_pending()
        sent.set()

    async def send_pending(self) -> None:
        """Sends the pending batch.

        Raises:
            LinkError: the link broke.
        """
        pending, self._pending = self._pending, []
        for packed in pending:
            await self._session.send(packed)

    def _fill(self, steps: Iterator[Step]) -> _Filled:
        """Takes steps until a batch is full; for worker threads."""
        with self._source.catalog.unit(), self._source.job():
            records: list[Record] = []
            content, fill = 0, Fill()
            special: Special | None = None
            for step in steps:
                if not isinstance(step, list):
                    special = step
                    break
                records += step
                content += content_bytes(step)
                fill.add(step)
                if fill.full:
                    break
            exhausted = special is None and not fill.full
            self._source.status.sent_bytes += content
            return _Filled(self._session.pack(records), special, exhausted)

    async def _send_special(self, special: Special) -> None:
        if isinstance(special, Large):
            await self._send_large(special)
        elif isinstance(special, Pages):
            await self._send_pages(special)
        else:
            self._maker.sent_special = await self._finder.send(special)

    async def _send_large(self, large: Large) -> None:
        source, before = self._source, self._source.status.sent_bytes
        place, inode = large.place, large.entry.ino
        there = large.entry if large.same_meta else None
        task = Task(place=place, whole=large.whole, trust=False, inode=inode, there=there)
        transfer = Transfer(source, self._session, task)
        try:
            await transfer.run()
        except OSError as error:
            if error.errno not in GONE:
                self._maker.findings.unreadable(place, error)
        self._maker.sent_special = transfer.sent
        if is_shared(large.entry) and transfer.brought != inode:
            self._maker.shared.miss(place)
        # A file that was compared block by block and found equal was not sent.
        source.status.sent_files += source.status.sent_bytes > before or large.whole
        await self._send_steps(await trio.to_thread.run_sync(self._maker.left_by, place))

    async def _send_pages(self, pages: Pages) -> None:
        """Goes through all names that the replica has in a directory."""
        self._maker.sent_special = False
        async for names in self._finder.pages(pages.place):
            steps = await trio.to_thread.run_sync(self._maker.page_steps, pages, names, limiter=self._turn)
            if await self._send_steps(steps):
                self._maker.sent_special = True
        for row in pages.rows.values():
            self._source.catalog.objects.remove(row)

    async def _send_steps(self, steps: list[Step]) -> bool:
        """True when something was sent."""
        sent = False
        for step in steps:
            if isinstance(step, OrphanList):
                sent = await self._finder.send(step) or sent
            elif isinstance(step, list):
                await self._session.send_records(step)
                sent = True
        return sent
