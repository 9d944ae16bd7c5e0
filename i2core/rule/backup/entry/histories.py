"""Opens the histories of replicas: where they are kept, and with which drivers."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from i2core.api import Code, DriverKind, Line, SinkContext, StopRule, UsageError, in_thread
from i2core.api.journal import Journal, JournalContext
from i2core.config.model import BackupRole, CdpRetention
from i2core.config.options import structure_options
from i2core.config.places import nested
from i2core.drivers.select import Drivers
from i2core.history.journal.packing import FRAME_OLD_BYTES
from i2core.history.model.grain import GRAIN
from i2core.history.moments.zones import zone_or_local
from i2core.history.record.clock import Reading
from i2core.history.record.durable import CannotGoOn, Durable
from i2core.history.record.history import History, HistoryContext, open_history
from i2core.history.retention.forecast import Forecast
from i2core.history.retention.policy import Days
from i2core.history.retention.terms import Keeping, Terms
from i2core.posix.path_text import as_path
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.replica.state_files import rule_key
from i2core.rule.boot_id import boot_id
from i2core.rule.life.report import code_in

JOURNAL = "cdp"
"""The driver of journals."""
PATIENCE_S, AGAIN_S = 5.0, 0.1
"""How long to wait for another process, and how often to look."""
_ANOTHER = (Code.CDP_DESCRIPTION, Code.CDP_INCOMPLETE, Code.CDP_VERSION)
"""What a history that begins finds in its place: an earlier one, of no use any more."""


class Histories:
    """The histories of one backup role.

    Each has a directory of its own, with its journal and its index. One that has ended keeps its directory under
    another name, until an administrator removes it.
    """

    def __init__(self, role: BackupRole, drivers: Drivers, *, state_dir: Path, shared: dict[str, Any]) -> None:
        """`shared`: as `SinkContext.shared`, the same as that of the sinks."""
        self._role = role
        self._drivers = drivers
        self._top = state_dir / "cdp" if role.cdp_dir is None else Path(os.fsdecode(role.cdp_dir))
        self._shared = shared
        self._forecasts: dict[str, Forecast] = {}
        """By directory: a history is opened again more often than its disk fills up."""

    def check(self, targets: Sequence[bytes]) -> None:
        """Raises UsageError where this node cannot keep a history of these targets (3570)."""
        sink = self._drivers.driver(DriverKind.SINK, self._role.sink.name)
        self._drivers.driver(DriverKind.JOURNAL, JOURNAL)
        if sink.replica is None:
            raise UsageError(
                f"the rule wants a history (cdp), and the sink {sink.name} of the backup node cannot keep one",
                code=Code.CDP_CONFIG,
                next_step="choose the sink fs, or remove cdp from the rule",
            )
        for one, other in itertools.combinations(targets, 2):
            if nested(one, other):  # the history would know an object under two numbers, and follow only one of them
                raise UsageError(
                    "the rule wants a history (cdp), and one of its targets is in another one, or the same",
                    code=Code.CDP_CONFIG,
                    obj=os.fsdecode(max(one, other, key=len)),
                    next_step="protect single files by rules of their own",
                )

    def directory(self, replica: Replica) -> Path:
        """Where the history of the replica is."""
        return self._top / rule_key(replica.peer, replica.rule)

    @asynccontextmanager
    async def open(self, replica: Replica, secret: bytes, durable: Durable | None) -> AsyncIterator[History]:
        """The history of the replica; None begins one, and sets aside what an earlier one has left.

        Raises:
            CannotGoOn: as `open_history`.
            StopRule: it cannot be opened.
        """
        directory = self.directory(replica)
        if durable is None:
            await in_thread(self._make, directory)
        elif not await in_thread(os.path.isdir, directory):
            raise StopRule(
                "the directory of the replica's history is not there",
                code=Code.CDP_DESCRIPTION_READ,
                obj=str(directory),
                next_step="mount its disk, or put it back, then start the rule",
            )
        async with AsyncExitStack() as stack:
            try:
                history = await stack.enter_async_context(self._opened(replica, secret, directory, durable))
            except (CannotGoOn, StopRule) as error:
                if durable is not None or (isinstance(error, StopRule) and error.code not in _ANOTHER):
                    raise
                await in_thread(self._set_aside, directory, replica)
                history = await stack.enter_async_context(self._opened(replica, secret, directory, None))
            yield history

    @staticmethod
    def _make(directory: Path) -> None:
        os.makedirs(directory, 0o700, exist_ok=True)

    def _set_aside(self, directory: Path, replica: Replica) -> None:
        free = (Path(f"{directory}.{number}") for number in itertools.count(1))
        aside = next(path for path in free if not os.path.lexists(path))
        os.rename(directory, aside)
        self._make(directory)
        cause = f"the earlier history of the replica is kept in {aside}"
        replica.say(Code.HISTORY_ENDED, Line(cause, code=Code.HISTORY_ENDED, obj=str(aside), cause=cause))

    @asynccontextmanager
    async def _opened(
        self, replica: Replica, secret: bytes, directory: Path, durable: Durable | None
    ) -> AsyncIterator[History]:
        spec = self._drivers.driver(DriverKind.SINK, self._role.sink.name)
        journal_spec = self._drivers.driver(DriverKind.JOURNAL, JOURNAL)
        if spec.replica is None:
            raise StopRule("the sink cannot keep a history", code=Code.CDP_CONFIG)
        position = replica.position

        def say(line: str) -> None:
            replica.say(code_in(line), line)

        journal_context = JournalContext(
            directory=os.fsencode(directory / "journal"),
            known="" if durable is None else position.journal,
            kept=None if durable is None else durable.tip,
            say=say,
        )
        context = HistoryContext(
            directory=str(directory / "index"),
            roots=len(position.targets),
            epoch=position.epoch,
            clocks=_clocks,
            say=say,
            flags=position.flags,
            grain=GRAIN,
            old_bytes=FRAME_OLD_BYTES,
            keeping=Keeping(
                terms=partial(self._terms, replica),
                days=Days(zone_or_local(position.zone)),
                forecast=self._forecasts.setdefault(str(directory), Forecast()),
            ),
        )
        async with (
            _patiently(partial(journal_spec.open, structure_options(journal_spec, {}), journal_context)) as journal,
            spec.replica(structure_options(spec, self._role.sink.options), self._sink(replica, secret, say)) as present,
            open_history(context, journal, present, durable) as history,
        ):
            yield history

    def _terms(self, replica: Replica) -> Terms:
        """The largest history that the work node ever asked for, and what this node decides."""
        detailed_days, daily, monthly = replica.position.cdp
        policy = CdpRetention(detailed_days=detailed_days, daily=daily, monthly=monthly)
        return Terms(policy=policy, own=self._role.cdp)

    def _sink(self, replica: Replica, secret: bytes, say: Callable[[str], None]) -> SinkContext:
        position = replica.position
        return SinkContext(
            roots=tuple(as_path(target) for target in position.targets),
            allowed=self._role.allow_roots,
            say=say,
            known=position.identities(),
            shared=self._shared,
            flags=position.flags,
            secret=secret,
        )


@asynccontextmanager
async def _patiently(open_: Callable[[], AbstractAsyncContextManager[Journal]]) -> AsyncIterator[Journal]:
    """The journal. Waits for a process that has it open and is about to end, as sinks do."""
    patience = trio.current_time() + PATIENCE_S
    async with AsyncExitStack() as stack:
        while True:
            try:
                journal = await stack.enter_async_context(open_())
                break
            except StopRule as error:
                if error.code is not Code.DUPLICATE_TASK or trio.current_time() > patience:
                    raise
            await trio.sleep(AGAIN_S)
        yield journal


def _clocks() -> Reading:
    return Reading(time.time_ns(), boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME))
