"""What recoveries of this node need of each other and of its rules: a rule must not read a directory that a recovery
writes, and a recovery of a rule's own source stops the rule first, if that is wanted.

    accepted there ─▶ the moment is noted ─▶ rules stop ─▶ one destination after the other ─▶ rules start ─▶ ended

Which rules will be stopped is noted when the task begins, so the next daemon continues after a crash at any point.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import cattrs
import trio

from i2core.api import Code, LinkError, PeerRefused, StopRule, UsageError
from i2core.config.model import Rule
from i2core.config.mounts import overlap
from i2core.config.places import real
from i2core.config.words import bilingual
from i2core.node.daemon.past_state import Chosen
from i2core.node.daemon.recovering import Show, Wanted, waiting
from i2core.node.daemon.recovery_link import RecoveryLink
from i2core.node.daemon.recovery_port import RecoveryPort
from i2core.node.daemon.recovery_talk import Job
from i2core.node.daemon.recovery_tasks import KIND, FromBackup, ToNode, kept, merged
from i2core.node.daemon.tasks import Task
from i2core.posix.mounts import mounts_here
from i2core.recovery.order import Extra
from i2core.rule.life.report import Line

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode

_RETRY_S = 1.0


class Recoveries:
    """The recoveries of one node."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self.port = RecoveryPort(node)
        self.link: RecoveryLink | None = None
        """None: this node has no work role."""
        self._written: list[bytes] = []
        self._held: dict[str, int] = {}
        """Rules that wait for the end of a task."""

    # ------------------------------------------------------------------------------------------ directories

    @contextmanager
    def written(self, places: Sequence[bytes]) -> Iterator[None]:
        """During the body no rule starts whose source overlaps one of these directories."""
        self._written += places
        try:
            yield
        finally:
            for place in places:
                self._written.remove(place)

    def refuse_start(self, rule: Rule) -> None:
        """
        Raises:
            UsageError: a recovery writes a source of the rule.
        """
        if rule.name in self._held:
            raise UsageError(self._waits(rule.name).cause, code=Code.RECOVERING, obj=rule.name)
        if self._overlapping([rule], self._written):
            raise UsageError(
                bilingual("a recovery is writing its source", "恢复任务正在写入其源目录"),
                code=Code.RECOVERING,
                obj=rule.name,
                next_step=bilingual(
                    "wait for its end, or cancel it: see i2 task list", "请等待其结束，或取消该任务：参见 i2 task list"
                ),
            )

    def holds(self, rule: str) -> bool:
        """True when the rule starts at the end of a task."""
        return rule in self._held

    def _overlapping(self, rules: Sequence[Rule], places: Sequence[bytes]) -> list[Rule]:
        mounts, tos = mounts_here(), [real(place) for place in places]
        return [
            rule for rule in rules if any(overlap(real(pair.source), to, mounts) for pair in rule.pairs for to in tos)
        ]

    # ------------------------------------------------------------------------------------------ tasks

    async def begin(self, rule: str, asked: FromBackup) -> Task:
        """Begins a recovery from a backup node.

        Raises:
            OSError: it cannot be noted; nothing was begun.
        """
        node = self._node
        if asked.stop_rule and not asked.dry_run:
            asked = attrs.evolve(asked, stopped=[name for name in self._below(asked) if node.runners[name].will_run])

        async def work(show: Show) -> Mapping[str, Any]:
            return await self._run(rule, asked, task.ident, show, resumed=False)

        task = await node.tasks.begin(
            node.nursery, KIND, rule, cattrs.unstructure(asked), work, resumes=not asked.dry_run
        )
        return task

    def take_up(self) -> None:
        """Continues what an earlier daemon has left. Before rules start: those whose sources are written wait."""
        for task in self._node.tasks.left():
            asked = kept(task)
            if isinstance(asked, ToNode):
                self._node.tasks.take_up(self._node.nursery, task, partial(self._to_node, asked))
                continue
            if asked is None or self.link is None:
                self._node.tasks.give_up(task)
                continue
            waiting = [
                rule.name for rule in self._node.config.rules if rule.autostart and rule.name in self._below(asked)
            ]
            asked = attrs.evolve(asked, stopped=list(dict.fromkeys([*asked.stopped, *waiting])))
            for name in asked.stopped:
                self._hold(name, task.ident)
            work = partial(self._again, task.rule, asked, task.ident)
            self._node.tasks.take_up(self._node.nursery, task, work)

    async def begin_to_node(self, name: str, asked: ToNode) -> Task:
        """Begins a recovery to a work node, as soon as that waits for orders.

        Raises:
            OSError: it cannot be noted; nothing was begun.
        """
        node, work = self._node, partial(self._to_node, asked)
        told = cattrs.unstructure(asked)
        return await node.tasks.begin(node.nursery, KIND, name, told, work, resumes=not asked.dry_run)

    async def _to_node(self, asked: ToNode, show: Show) -> Mapping[str, Any]:
        wanted = Wanted(
            paths=asked.paths,
            extra=Extra(asked.extra),
            strict=asked.strict,
            prove=asked.prove,
            dry_run=asked.dry_run,
        )
        chosen = Chosen(moment=asked.moment, seq=asked.seq, snapshot=asked.snapshot)
        job = Job(asked.rule, wanted, chosen, os.fsencode(asked.directory))
        began_s = trio.current_time()
        while True:
            show(waiting(began_s))
            await self.port.waits(asked.peer)
            try:
                return await self.port.order(asked.peer, job, show)
            except PeerRefused:
                raise
            except LinkError as error:
                line = Line.of(error, f"recovery to {asked.peer} waits for the link: ")
                self._node.logbook.say(asked.rule, error.code, line)
            await trio.sleep(_RETRY_S)

    async def _again(self, rule: str, asked: FromBackup, ident: int, show: Show) -> Mapping[str, Any]:
        return await self._run(rule, asked, ident, show, resumed=True)

    def _below(self, asked: FromBackup) -> list[str]:
        """The rules whose sources it writes."""
        places = [os.fsencode(leg.to) for leg in asked.legs]
        return [rule.name for rule in self._overlapping(self._node.config.rules, places)]

    async def _run(self, rule: str, asked: FromBackup, ident: int, show: Show, *, resumed: bool) -> Mapping[str, Any]:
        """Recovers, and starts the rules again however that ends; only the end of the daemon leaves them stopped, for
        the next daemon."""
        try:
            outcome = asked.outcome or await self._recover(rule, asked, ident, show, resumed=resumed)
        except trio.Cancelled:
            if self._node.tasks.is_cancelled(ident):
                self._start(asked.stopped, ident)
            raise
        except BaseException:
            self._start(asked.stopped, ident)
            raise
        self._start(asked.stopped, ident)
        return outcome

    async def _recover(self, rule: str, asked: FromBackup, ident: int, show: Show, *, resumed: bool) -> dict[str, Any]:
        assert self.link is not None
        besides = self._below(asked) if asked.dry_run and asked.stop_rule else asked.stopped
        outcomes: list[dict[str, Any]] = []

        async def begun(seq: int | None) -> None:
            nonlocal asked
            if seq not in (None, asked.at_seq):
                asked = attrs.evolve(asked, at=None, nearest=None, at_seq=seq)
                await self._node.tasks.note(ident, {"at": None, "nearest": None, "at_seq": seq})
            for name in asked.stopped:
                await self._stop(name, ident)

        with self.written([] if asked.dry_run else [os.fsencode(leg.to) for leg in asked.legs]):
            for leg in asked.legs:
                order, is_later = asked.order(rule, leg), bool(outcomes)
                outcomes.append(
                    await self.link.recover(
                        asked.backup, order, show, begun, besides=besides, resumed=resumed or is_later
                    )
                )
        outcome = merged(outcomes)
        if asked.stopped:
            await self._node.tasks.note(ident, {"outcome": outcome})
        return outcome

    # ------------------------------------------------------------------------------------------ rules

    async def _stop(self, name: str, ident: int) -> None:
        runner = self._node.runners.get(name)
        if name not in self._held and runner is not None and await runner.stop():
            self._hold(name, ident)

    def _hold(self, name: str, ident: int) -> None:
        """Says that a rule is stopped, and why."""
        self._held[name] = ident
        runner = self._node.runners.get(name)
        if runner is not None:
            waits = self._waits(name)
            runner.status.note(waits)
            self._node.logbook.say(name, waits.code, Line.of(waits))

    def _waits(self, name: str) -> StopRule:
        ident = self._held[name]
        return StopRule(
            bilingual(
                f"it is stopped for recovery task {ident}, and starts again when that ends",
                f"已为恢复任务 {ident} 停止，任务结束后将重新启动",
            ),
            code=Code.RECOVERING,
            obj=name,
            next_step=bilingual(f"see i2 task show {ident}", f"参见 i2 task show {ident}"),
        )

    def _start(self, names: Sequence[str], ident: int) -> None:
        for name in names:
            if self._held.pop(name, None) is None:
                continue
            runner = self._node.runners.get(name)
            if runner is not None and runner.start(self._node.nursery):
                text = bilingual(f"started again after recovery task {ident}", f"恢复任务 {ident} 结束，已重新启动")
                self._node.logbook.say(name, None, Line(text, obj=name))
