"""A recovery from beginning to end: checks, mirrors, tries again what failed, proves, and keeps a record of it.

    plan      checks ─▶ compare both sides as trees                       nothing is written
    run       checks ─▶ pass ─▶ pass (proof, or what failed) … ─▶ outcome    each pass is a mirror

A pass that finds nothing to send, with all contents compared, is the proof that the destination is equal.
"""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from i2core.api import Code, I2Error, StopRule, in_thread
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers
from i2core.posix.path_text import shown
from i2core.recovery import destination, tried
from i2core.recovery.ends import Receiver
from i2core.recovery.order import Extra, Order
from i2core.recovery.outcome import Outcome, Phase, Progress
from i2core.recovery.passes import Pass, Result
from i2core.recovery.plan import Comparing, Plan, make_plan
from i2core.recovery.receiving import Receiving, forget, receiving
from i2core.recovery.view import View
from i2core.rule.backup.entry.secret import node_secret
from i2core.rule.backup.replica.state_files import unkept
from i2core.rule.life.report import Line, Say
from i2core.rule.life.status import RuleStatus

PASSES = 4
"""Most passes: what differs after the last one is reported."""
_FULL = (Code.REPLICA_FULL, Code.REPLICA_NO_INODES)
_DIFFERS = "it still differs: the destination cannot hold it as it was"
_STAYS = "it is extra, and could not be removed"


class Recovery:
    """One recovery. `plan` and `run` are called one after the other, `progress` at any time. To stop, cancel the scope
    that they are called in; a later `run` of the same order continues."""

    def __init__(self, order: Order, *, state_dir: Path, place: Path, say: Say, drivers: Drivers | None = None) -> None:
        """`state_dir`: of this node, for its secret. `place`: as `tried.place_of`. `drivers`: None for a process of its
        own that writes the destination, with the drivers that are installed; otherwise it is written in this one."""
        self._order = order
        self._drivers = drivers
        self._state_dir = state_dir
        self._place = place
        self._say = say
        self._view = View(order.to, order.parts)
        self._phase, self._phase_began = Phase.WAITING, time.monotonic()
        self._status = RuleStatus(name=order.rule)
        """Figures of the present pass."""
        self._plan: Plan | None = None
        self._sent_files = self._sent_bytes = 0
        """Of the passes before."""

    def progress(self) -> Progress:
        """How far it is."""
        status = self._status
        planned = (0, 0) if self._plan is None else (self._plan.files, self._plan.bytes)
        is_planning = self._phase is Phase.PLANNING
        return Progress(
            self._phase,
            *(planned if is_planning else (status.checked_files, status.checked_bytes)),
            *(planned if is_planning else (status.listed_files, status.listed_bytes)),
            all_known=status.listing_done and not is_planning,
            sent_files=self._sent_files + status.sent_files,
            sent_bytes=self._sent_bytes + status.sent_bytes,
            seconds=time.monotonic() - self._phase_began,
        )

    def _enter(self, phase: Phase) -> None:
        self._phase, self._phase_began = phase, time.monotonic()

    # ------------------------------------------------------------------------------------------ what would be done

    async def plan(self) -> Plan:
        """What `run` would do. Writes nothing at the destination. The caller closes the plan.

        Raises:
            UsageError: the destination is refused.
            StopRule: a tree is gone.
        """
        self._enter(Phase.PLANNING)
        to = await in_thread(self._checked)
        self._plan = plan = Plan()
        there = await in_thread(partial(destination.opened, to, flags=self._view.flags))
        try:
            sides = Comparing(
                wanted=self._view,
                there=there,
                filter=self._view.filter(),
                is_shell=self._view.is_shell,
                extra=self._order.extra,
                strict=self._order.strict,
            )
            await in_thread(make_plan, sides, plan)
        except BaseException:
            plan.close()
            raise
        finally:
            self._plan = None
            self._enter(Phase.WAITING)
            if there is not None:
                there.close()
        return plan

    def _checked(self) -> bytes:
        """The destination, checked."""
        order = self._order
        to = destination.checked(order.to, order.forbidden)
        destination.check_parts(to, [part.at for part in order.parts], order.forbidden)
        there = destination.opened(to, flags=False)
        try:
            destination.check_shells(self._view, there)
        finally:
            if there is not None:
                there.close()
        return to

    # ------------------------------------------------------------------------------------------ doing it

    async def run(self) -> Outcome:
        """Makes the destination equal, and keeps a record of it.

        Raises:
            UsageError: the destination is refused; nothing was written.
            StopRule: a tree is gone, somebody else writes the destination, or it cannot be written any more, for
                example because its disk is full. `run` again continues.
        """
        self._enter(Phase.RECOVERING)
        self._sent_files = self._sent_bytes = 0
        to = await in_thread(self._checked)
        begun = await in_thread(self._begin, to)
        end = attrs.evolve(begun, outcome="cancelled")
        try:
            outcome = await self._recover(to)
            kind = "differs" if not outcome.equal else "proved" if outcome.proved else "equal"
            end = attrs.evolve(end, outcome=kind, files=outcome.files, bytes=outcome.bytes, failed=outcome.failed_count)
        except Exception as error:
            cause = error.cause if isinstance(error, I2Error) else str(error) or type(error).__name__
            end = attrs.evolve(end, outcome="failed", cause=cause)
            raise
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(self._end, attrs.evolve(end, ended_ns=time.time_ns()))
        self._enter(Phase.DONE)
        return outcome

    def _begin(self, to: bytes) -> tried.Tried:
        """Notes that it begins.

        Raises:
            I2Error: that cannot be noted; nothing was written.
        """
        order = self._order
        try:
            return tried.begin(self._place, rule=order.rule, moment=order.moment, to=shown(to), now_ns=time.time_ns())
        except OSError as error:
            raise unkept(error, self._place, "the record of recoveries") from error

    def _end(self, ended: tried.Tried) -> None:
        """Notes how it ended. If that cannot be noted, the recovery is no worse for it."""
        try:
            tried.end(self._place, ended)
        except OSError as error:
            found = unkept(error, self._place, "the record of recoveries")
            self._say(self._order.rule, found.code, Line.of(found))

    async def _recover(self, to: bytes) -> Outcome:
        began = time.monotonic()
        aside = await in_thread(self._made, to)
        async with self._receiving(to, aside) as end:
            first = await self._first(end)
            last = await self._others(end, first)
        await in_thread(forget, self._under_way(to))
        is_aside = aside is not None and await in_thread(destination.has_anything, aside)
        return Outcome(
            to=shown(to),
            files=self._status.listed_files,
            bytes=self._status.listed_bytes,
            sent_files=self._sent_files + self._status.sent_files,
            sent_bytes=self._sent_bytes + self._status.sent_bytes,
            extra=first.extra,
            aside=shown(aside) if aside is not None and is_aside else None,
            failed=last.failed,
            failed_count=last.failed_count,
            proved=last.clean if self._order.prove else None,
            seconds=time.monotonic() - began,
        )

    def _made(self, to: bytes) -> bytes | None:
        """Makes the destination if it is missing, and where extra files are moved; returns the latter."""
        aside = None
        if self._order.extra is Extra.ASIDE:
            text = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = destination.aside_of(to, text)
        destination.make(to)
        if aside is not None:
            destination.make(aside)
        return aside

    @asynccontextmanager
    async def _receiving(self, to: bytes, aside: bytes | None) -> AsyncIterator[Receiving]:
        """The receiving end."""
        order = self._order
        secret = await in_thread(node_secret, self._state_dir)
        roots = (to,) if aside is None else (to, aside)
        receiver = Receiver(roots=roots, sink=order.sink, place=self._under_way(to), secret=secret)
        async with receiving(order, receiver, flags=self._view.flags, drivers=self._drivers, say=self._say) as end:
            yield end

    def _under_way(self, to: bytes) -> Path:
        """State of the recovery to this destination until it is complete."""
        return self._place / "under-way" / hashlib.sha256(to).hexdigest()[:32]

    async def _first(self, end: Receiving) -> Result:
        """The first pass. If the disk is full and extra files may go, they go first, and it begins again."""
        try:
            return await self._pass(end, Phase.RECOVERING, strict=self._order.strict)
        except StopRule as error:
            if error.code not in _FULL or self._order.extra is not Extra.DELETE:
                raise _continues(error) from error
        await self._pass(end, Phase.RECOVERING, strict=False, makes_room=True)
        try:
            return await self._pass(end, Phase.RECOVERING, strict=self._order.strict)
        except StopRule as error:
            raise _continues(error) from error

    async def _others(self, end: Receiving, first: Result) -> Result:
        """The passes after the first one: the proof, and what failed. Returns the last one's result, which says what is
        still not as it should be."""
        last = first
        for _ in range(PASSES - 1):
            if not self._order.prove and not last.failed_count:
                return last
            phase, before = Phase.PROVING if self._order.prove else Phase.AGAIN, last
            last = await self._pass(end, phase, strict=True)
            if not last.records and not self._stays(last):
                return last
            if last.failed_count and last.failed == before.failed:
                break  # what failed fails each time
        for path in last.remaining():
            last.fail(path, Code.REPLICATE_FILE, _DIFFERS)
        for path in self._stays(last):
            last.fail(path, Code.REPLICATE_FILE, _STAYS)
        return last

    def _stays(self, last: Result) -> list[str]:
        """Extra names that a pass has found and that should be gone."""
        return [] if self._order.extra is Extra.KEEP else last.extra_names

    async def _pass(self, end: Receiving, phase: Phase, *, strict: bool, makes_room: bool = False) -> Result:
        if self._phase is not phase:
            self._enter(phase)
        keeps = self._order.extra is Extra.KEEP
        one = Pass(self._view, end, self._order.rule, self._say, keeps=keeps)
        self._sent_files += self._status.sent_files
        self._sent_bytes += self._status.sent_bytes
        self._status = one.status
        try:
            if makes_room:
                await one.make_room()
                return one.result
            return await one.run(strict=strict)
        finally:
            one.close()


def _continues(error: StopRule) -> StopRule:
    """The error of a destination that cannot be written any more, with what to do."""
    if error.code not in _FULL:
        return error
    step = bilingual(
        "make room there, then run the same recovery again: it continues",
        "请在该处腾出空间，然后再次执行同一恢复：将从中断处继续",
    )
    return StopRule(error.cause, code=error.code, obj=error.obj, next_step=step)
