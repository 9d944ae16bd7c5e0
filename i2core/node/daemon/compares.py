"""The compares of a node's rules: each is a task, one at a time for each rule, and its result is kept.

begin ──▶ booked ──▶ queued ──▶ comparing, settling, mending ──▶ result: totals in the task, objects in a file
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import Code, Line, UsageError, in_thread
from i2core.compare.comparing import Comparing, Order
from i2core.compare.places import place_of
from i2core.compare.reading import Ends
from i2core.compare.result import Result
from i2core.config.words import bilingual
from i2core.node.control.errors import unknown_rule
from i2core.node.daemon.tasks import Figures, Task, Tasks, TaskState
from i2core.rule.life.disk_full import own_disk
from i2core.rule.life.report import Say
from i2core.tasks import background

KIND = "compare"
KEPT = 50
"""Results of one rule that are kept."""
_REPORT_S = 0.5
_LONGEST_S = 30.0
"""How long it is slept at a time until a booked compare begins: the clock may be set meanwhile."""
Show = Callable[[Figures], None]


@attrs.frozen(kw_only=True)
class Asked:
    """What was asked for."""

    strict: bool = False
    mend: bool = False
    paths: Sequence[str] = ()
    """On the source, absolute, or relative to the rule's only directory."""
    when_ns: int | None = None
    """When it begins, in ns since 1970; None: now."""
    by: str = "user"
    """``user``, ``schedule`` or ``orphans``."""

    def as_json(self) -> dict[str, Any]:
        """For the task."""
        asked = {"strict": self.strict, "mend": self.mend, "paths": list(self.paths), "by": self.by}
        return asked if self.when_ns is None else asked | {"when_ns": self.when_ns}


class Compares:
    """Begins compares, and gives their results out."""

    def __init__(self, directory: Path, nursery: trio.Nursery, tasks: Tasks, say: Say) -> None:
        """`directory`: where results are kept; it may be missing."""
        self._directory = directory
        self._nursery = nursery
        self._tasks = tasks
        self._say = say
        self._turns: dict[str, trio.Lock] = {}
        self._yielding: dict[str, trio.CancelScope] = {}
        self.ends: Callable[[str], Ends] = _no_rules
        """Both sides of a rule."""

    async def begin(self, rule: str, asked: Asked) -> Task:
        """Begins a compare, or queues it.

        Raises:
            UsageError: a path is not beneath a source of the rule, or the rule cannot be compared.
            OSError: it cannot be noted.
        """
        pairs = self.ends(rule).work.rule.pairs
        for path in asked.paths:
            place_of(path, pairs)
        await in_thread(self._tidy)
        return await self._tasks.begin(self._nursery, KIND, rule, asked.as_json(), partial(self._run, rule, asked))

    @asynccontextmanager
    async def yielding_turn(self, rule: str) -> AsyncIterator[None]:
        """The turn of a rule, for work that is repeated later if a compare wants to begin: then the body is cancelled,
        and that ends here."""
        async with self._turns.setdefault(rule, trio.Lock()):
            with trio.CancelScope() as scope:
                self._yielding[rule] = scope
                try:
                    yield
                finally:
                    del self._yielding[rule]

    def of(self, rule: str) -> list[Task]:
        """The compares of a rule that are remembered, the latest first."""
        return [task for task in reversed(self._tasks.all()) if task.kind == KIND and task.rule == rule]

    def latest(self, rule: str) -> Task | None:
        """The latest compare of the whole rule that has a result."""
        whole = (task for task in self.of(rule) if not task.asked["paths"] and self.path_of(task) is not None)
        return next(whole, None)

    def path_of(self, task: Task) -> Path | None:
        """Where the objects of a result are; None: there is none."""
        kept = (task.result or {}).get("kept")
        return None if not kept else self._directory / f"{kept}.db"

    async def _run(self, rule: str, asked: Asked, show: Show) -> Figures:
        await _until(asked.when_ns, show)
        show({"phase": "queued"})
        if rule in self._yielding:
            self._yielding[rule].cancel()
        kept = secrets.token_hex(8)
        path = self._directory / f"{kept}.db"
        async with self._turns.setdefault(rule, trio.Lock()):
            ends = self.ends(rule)  # its config may have changed while it was queued
            order = Order(
                strict=asked.strict,
                mend=asked.mend,
                places=[place_of(each, ends.work.rule.pairs) for each in asked.paths],
            )
            try:
                with own_disk(self._directory):
                    totals = await self._compare(ends, order, path, show)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                raise
        if totals["differs"]:
            self._report(rule, totals)
        return totals | {"kept": kept}

    async def _compare(self, ends: Ends, order: Order, path: Path, show: Show) -> dict[str, Any]:
        os.makedirs(self._directory, 0o700, exist_ok=True)
        result = Result(path)
        try:
            comparing = Comparing(ends, order, result)
            async with background() as nursery:
                nursery.start_soon(_show, comparing, show)
                totals = await comparing.run()
            show(comparing.progress())
        finally:
            result.close()
        return totals.as_json() | {"differs": totals.differs}

    def _report(self, rule: str, totals: Mapping[str, int]) -> None:
        cause = bilingual(
            f"{totals['missing']} missing, {totals['different']} different, {totals['extra']} only on the replica, "
            f"{totals['mended']} of them mended",
            f"缺失 {totals['missing']}，不同 {totals['different']}，仅在灾备端 {totals['extra']}，"
            f"其中已修复 {totals['mended']}",
        )
        self._say(rule, Code.FILE_CHECKSUM, Line(cause, code=Code.FILE_CHECKSUM, obj=rule, cause=cause))

    def _tidy(self) -> None:
        """Removes the results that no remembered task has, and all but the latest of each rule."""
        kept: dict[str, list[str]] = {}
        running = False
        for task in reversed(self._tasks.all()):
            running = running or (task.state is TaskState.RUNNING and task.kind == KIND)
            path = self.path_of(task)
            if path is not None:
                kept.setdefault(task.rule, []).append(path.name)
        wanted = {name for names in kept.values() for name in names[:KEPT]}
        with contextlib.suppress(FileNotFoundError):
            for name in () if running else os.listdir(self._directory):
                if name not in wanted:
                    with contextlib.suppress(OSError):
                        os.unlink(self._directory / name)


async def _show(comparing: Comparing, show: Show) -> None:
    while True:
        show(comparing.progress())
        await trio.sleep(_REPORT_S)


async def _until(when_ns: int | None, show: Show) -> None:
    while when_ns is not None and (left_s := (when_ns - time.time_ns()) / 1e9) > 0:
        show({"phase": "booked", "begins_ns": when_ns})
        await trio.sleep(min(left_s, _LONGEST_S))


def _no_rules(name: str) -> Ends:
    raise unknown_rule(name)


def unknown_result(number: int) -> UsageError:
    """The task is no compare with a result."""
    return UsageError(
        bilingual("there is no result of a compare of that number", "没有该编号的比较结果"),
        obj=str(number),
        next_step=bilingual("see i2 compare RULE --list", "参见 i2 compare RULE --list"),
    )
