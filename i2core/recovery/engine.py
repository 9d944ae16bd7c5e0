"""A recovery from beginning to end: checks, mirrors, tries again what failed, proves, and keeps a record of it.

    plan      checks ─▶ compare both sides as trees                       nothing is written
    run       checks ─▶ pass ─▶ pass (proof, or what failed) … ─▶ outcome    each pass is a mirror

A pass that finds nothing to send, with all contents compared, is the proof that the destination is equal.
"""

from __future__ import annotations

import time
from pathlib import Path

import attrs
import trio

from i2core.api import Code, I2Error, StopRule, in_thread
from i2core.config.words import bilingual
from i2core.recovery import tried
from i2core.recovery.end import End, Landing
from i2core.recovery.order import Extra, Order
from i2core.recovery.outcome import Outcome, Phase, Progress
from i2core.recovery.passes import Pass, Result
from i2core.recovery.plan import Comparing, Plan, make_plan
from i2core.recovery.receiving import Receiving, receiving
from i2core.recovery.view import View
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

    def __init__(self, order: Order, end: End, *, place: Path, say: Say) -> None:
        """`end`: where it goes, checked and written. `place`: as `tried.place_of`."""
        self._order = order
        self._end = end
        self._place = place
        self._say = say
        self._view = View(end.to, order.parts)
        self._landing = Landing(
            rule=order.rule,
            places=tuple(part.at for part in order.parts),
            shells=tuple(self._view.shells()),
            extra=order.extra,
            flags=self._view.flags,
        )
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
        await self._end.check(self._landing)
        self._plan = plan = Plan()
        try:
            async with self._end.there(self._landing) as there:
                sides = Comparing(
                    wanted=self._view,
                    there=there.tree,
                    owns=there.owns,
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
        return plan

    # ------------------------------------------------------------------------------------------ doing it

    async def run(self) -> Outcome:
        """Makes the destination equal, and keeps a record of it.

        Raises:
            UsageError: the destination is refused; nothing was written.
            StopRule: a tree is gone, somebody else writes the destination, or it cannot be written any more, for
                example because its disk is full. `run` again continues.
            LinkError: the link to the destination's node broke. `run` again continues.
        """
        self._enter(Phase.RECOVERING)
        self._sent_files = self._sent_bytes = 0
        to = await self._end.check(self._landing)
        begun = await in_thread(self._note_begun, to)
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
                await in_thread(self._note_ended, attrs.evolve(end, ended_ns=time.time_ns()))
        self._enter(Phase.DONE)
        return outcome

    def _note_begun(self, to: str) -> tried.Tried:
        """Notes that it begins.

        Raises:
            I2Error: that cannot be noted; nothing was written.
        """
        order = self._order
        try:
            return tried.begin(self._place, rule=order.rule, moment=order.moment, to=to, now_ns=time.time_ns())
        except OSError as error:
            raise unkept(error, self._place, "the record of recoveries") from error

    def _note_ended(self, ended: tried.Tried) -> None:
        """Notes how it ended. If that cannot be noted, the recovery is no worse for it."""
        try:
            tried.end(self._place, ended)
        except OSError as error:
            found = unkept(error, self._place, "the record of recoveries")
            self._say(self._order.rule, found.code, Line.of(found))

    async def _recover(self, to: str) -> Outcome:
        began = time.monotonic()
        async with self._end.writing(self._landing) as writing:
            sessions = receiving(self._landing, writing)
            first = await self._first(sessions)
            last = await self._others(sessions, first)
        aside = await self._end.complete()
        return Outcome(
            to=to,
            files=self._status.listed_files,
            bytes=self._status.listed_bytes,
            sent_files=self._sent_files + self._status.sent_files,
            sent_bytes=self._sent_bytes + self._status.sent_bytes,
            extra=first.extra,
            aside=aside,
            failed=last.failed,
            failed_count=last.failed_count,
            proved=last.clean if self._order.prove else None,
            seconds=time.monotonic() - began,
        )

    async def _first(self, sessions: Receiving) -> Result:
        """The first pass. If the disk is full and extra files may go, they go first, and it begins again."""
        try:
            return await self._pass(sessions, Phase.RECOVERING, strict=self._order.strict)
        except StopRule as error:
            if error.code not in _FULL or self._order.extra is not Extra.DELETE:
                raise _continues(error) from error
        await self._pass(sessions, Phase.RECOVERING, strict=False, makes_room=True)
        try:
            return await self._pass(sessions, Phase.RECOVERING, strict=self._order.strict)
        except StopRule as error:
            raise _continues(error) from error

    async def _others(self, sessions: Receiving, first: Result) -> Result:
        """The passes after the first one: the proof, and what failed. Returns the last one's result, which says what is
        still not as it should be."""
        last = first
        for _ in range(PASSES - 1):
            if not self._order.prove and not last.failed_count:
                return last
            phase, before = Phase.PROVING if self._order.prove else Phase.AGAIN, last
            last = await self._pass(sessions, phase, strict=True)
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

    async def _pass(self, sessions: Receiving, phase: Phase, *, strict: bool, makes_room: bool = False) -> Result:
        if self._phase is not phase:
            self._enter(phase)
        keeps = self._order.extra is Extra.KEEP
        one = Pass(self._view, sessions, self._order.rule, self._say, keeps=keeps)
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
