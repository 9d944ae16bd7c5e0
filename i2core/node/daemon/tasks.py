"""Long operations of a daemon, such as a recovery: each is a task that can be watched and cancelled. It outlives the
connection that began it, and its end is kept.

    begin ──▶ running ──▶ done | failed | cancelled
                  └─────▶ interrupted: the daemon ended before it did

Each task is a small file, written when it begins and when it ends. So a restarted daemon knows what it has broken off,
and says so. A task that resumes is taken up by the next daemon instead, under the same number.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
import trio

from i2core.api import Code, UsageError, in_thread
from i2core.api.line import Line
from i2core.config.words import bilingual
from i2core.node.daemon.faults import as_i2error, error_json
from i2core.posix.durable import replace_durably
from i2core.rule.life.report import Say

KEPT = 500
"""Ended tasks that are remembered."""
_FILE = re.compile(r"(\d{8})\.json")
Figures = Mapping[str, Any]
"""Values for JSON."""
Work = Callable[[Callable[[Figures], None]], Awaitable[Figures]]
"""The operation itself: gets a function that shows its progress, and returns its result."""


class TaskState(enum.Enum):
    """How far a task is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The daemon ended before the task did."""


@attrs.frozen(kw_only=True)
class Task:
    """One long operation. Times in nanoseconds since the epoch, by this node's clock."""

    ident: int
    kind: str
    """What it does, such as ``recovery``."""
    rule: str
    asked: dict[str, Any]
    """What was asked for."""
    began_ns: int
    state: TaskState = TaskState.RUNNING
    ended_ns: int | None = None
    progress: dict[str, Any] = attrs.field(factory=dict)
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    """Of a task that failed: as `error_json` gives it."""
    resumes: bool = False
    """The next daemon takes it up when this one ends."""

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        found: dict[str, Any] = cattrs.unstructure(self)
        return found


@attrs.define
class _Running:
    task: Task
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)
    is_cancelled: bool = False


class Tasks:
    """The tasks of one daemon."""

    def __init__(self, directory: Path, say: Say) -> None:
        """Reads what is kept in the directory, which may be missing; tells which tasks an earlier daemon has broken
        off."""
        self._directory = directory
        self._say = say
        self._running: dict[int, _Running] = {}
        self._ended: dict[int, Task] = {}
        self._left: dict[int, Task] = {}
        """Those of an earlier daemon that are to be taken up."""
        self._next = 1
        self._load()

    def all(self) -> list[Task]:
        """All that are remembered, oldest first."""
        running = {ident: each.task for ident, each in self._running.items()}
        return [task for _, task in sorted({**self._ended, **self._left, **running}.items())]

    def get(self, ident: int) -> Task:
        """The task as it is now.

        Raises:
            UsageError: there is none, or it is not remembered any more.
        """
        running = self._running.get(ident)
        found = self._ended.get(ident, self._left.get(ident)) if running is None else running.task
        if found is None:
            raise _unknown(ident)
        return found

    async def begin(
        self,
        nursery: trio.Nursery,
        kind: str,
        rule: str,
        asked: Mapping[str, Any],
        work: Work,
        *,
        resumes: bool = False,
    ) -> Task:
        """Begins an operation, which goes on in `nursery`.

        Raises:
            OSError: the task cannot be noted; nothing was begun.
        """
        ident, self._next = self._next, self._next + 1
        task = Task(ident=ident, kind=kind, rule=rule, asked=dict(asked), began_ns=time.time_ns(), resumes=resumes)
        await in_thread(self._keep, task)
        self._start(nursery, task, work)
        return task

    def _start(self, nursery: trio.Nursery, task: Task, work: Work) -> None:
        self._running[task.ident] = running = _Running(task)
        nursery.start_soon(self._run, running, work)

    def left(self) -> list[Task]:
        """Those that an earlier daemon has broken off and that are to be taken up, oldest first."""
        return list(self._left.values())

    def take_up(self, nursery: trio.Nursery, task: Task, work: Work) -> None:
        """Continues one of `left`."""
        self._say(task.rule, None, f"task {task.ident} ({task.kind}) continues")
        self._start(nursery, self._left.pop(task.ident), work)

    def give_up(self, task: Task) -> None:
        """Ends one of `left` that cannot be continued."""
        self._ended[task.ident] = self._broken_off(self._left.pop(task.ident))

    async def note(self, ident: int, asked: Mapping[str, Any]) -> None:
        """Adds to what was asked for, durably: for the daemon that takes the running task up.

        Raises:
            OSError: it cannot be noted.
        """
        running = self._running[ident]
        running.task = attrs.evolve(running.task, asked={**running.task.asked, **asked})
        await in_thread(self._keep, running.task)

    def is_cancelled(self, ident: int) -> bool:
        """True when somebody has asked the running task to end; it may also be cancelled because the daemon ends."""
        running = self._running.get(ident)
        return running is not None and running.is_cancelled

    async def wait(self, ident: int, most_s: float) -> Task:
        """The task when it has ended, or after so many seconds."""
        running = self._running.get(ident)
        if running is not None:
            with trio.move_on_after(most_s):
                await running.ended.wait()
        return self.get(ident)

    def cancel(self, ident: int) -> bool:
        """Asks the task to end; False when it has ended.

        Raises:
            UsageError: as `get`.
        """
        running = self._running.get(ident)
        if running is None:
            self.get(ident)
            return False
        running.is_cancelled = True
        running.scope.cancel()
        return True

    async def _run(self, running: _Running, work: Work) -> None:
        def show(figures: Figures) -> None:
            running.task = attrs.evolve(running.task, progress=dict(figures))

        try:
            with running.scope:
                try:
                    result = await work(show)
                    await self._end(running, TaskState.DONE, result=dict(result))
                except Exception as error:
                    await self._end(running, TaskState.FAILED, error=error_json(as_i2error(error)))
            if running.is_cancelled and running.task.state is TaskState.RUNNING:
                await self._end(running, TaskState.CANCELLED)
        finally:
            running.ended.set()

    async def _end(self, running: _Running, state: TaskState, **outcome: Any) -> None:
        with trio.CancelScope(shield=True):
            running.task = task = attrs.evolve(running.task, state=state, ended_ns=time.time_ns(), **outcome)
            self._ended[task.ident] = task
            del self._running[task.ident]
            forgotten = sorted(self._ended)[:-KEPT]
            for ident in forgotten:
                del self._ended[ident]
            try:
                await in_thread(self._keep, task)
                await in_thread(self._forget, forgotten)
            except OSError as error:
                self._say(task.rule, Code.INTERNAL, f"task {task.ident} has ended, but cannot be noted: {error}")

    # ------------------------------------------------------------------------------------------- on disk

    def _path(self, ident: int) -> Path:
        return self._directory / f"{ident:08}.json"

    def _keep(self, task: Task) -> None:
        replace_durably(self._path(task.ident), json.dumps(task.as_json()).encode())

    def _forget(self, idents: list[int]) -> None:
        for ident in idents:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(ident))

    def _load(self) -> None:
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return
        for name in names:
            numbered = _FILE.fullmatch(name)
            if numbered is None:
                continue
            self._next = int(numbered[1]) + 1
            task = _read(self._directory / name)
            if task is not None:
                self._place(task)

    def _place(self, task: Task) -> None:
        if task.state is not TaskState.RUNNING:
            self._ended[task.ident] = task
        elif task.resumes:
            self._left[task.ident] = task
        else:
            self._ended[task.ident] = self._broken_off(task)

    def _broken_off(self, task: Task) -> Task:
        cause = f"task {task.ident} ({task.kind}) was interrupted, because the daemon ended"
        self._say(task.rule, Code.TASK_INTERRUPTED, Line(cause, code=Code.TASK_INTERRUPTED, cause=cause))
        ended = attrs.evolve(task, state=TaskState.INTERRUPTED)
        with contextlib.suppress(OSError):
            self._keep(ended)
        return ended


def _read(path: Path) -> Task | None:
    """A task that was kept; None: the file is damaged."""
    try:
        return cattrs.structure(json.loads(path.read_bytes()), Task)
    except (OSError, ValueError, TypeError, KeyError, cattrs.BaseValidationError):
        return None


def _unknown(ident: int) -> UsageError:
    return UsageError(
        bilingual("there is no such task", "没有该任务"),
        obj=str(ident),
        next_step=bilingual("see i2 task list", "参见 i2 task list"),
    )
