"""Long operations of a daemon, such as a recovery: each is a task that can be watched and cancelled. It outlives the
connection that began it, and its end is kept.

    begin ──▶ running ──▶ done | failed | cancelled
                  └─────▶ interrupted: the daemon ended before it did

Each task is a small file, written when it begins and when it ends. So a restarted daemon knows what it has broken off,
and says so.
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
        self._next = 1
        self._load()

    def all(self) -> list[Task]:
        """All that are remembered, oldest first."""
        running = {ident: each.task for ident, each in self._running.items()}
        return [task for _, task in sorted({**self._ended, **running}.items())]

    def get(self, ident: int) -> Task:
        """The task as it is now.

        Raises:
            UsageError: there is none, or it is not remembered any more.
        """
        running = self._running.get(ident)
        found = self._ended.get(ident) if running is None else running.task
        if found is None:
            raise _unknown(ident)
        return found

    async def begin(self, nursery: trio.Nursery, kind: str, rule: str, asked: Mapping[str, Any], work: Work) -> Task:
        """Begins an operation, which goes on in `nursery`.

        Raises:
            OSError: the task cannot be noted; nothing was begun.
        """
        ident, self._next = self._next, self._next + 1
        task = Task(ident=ident, kind=kind, rule=rule, asked=dict(asked), began_ns=time.time_ns())
        await in_thread(self._keep, task)
        self._running[ident] = running = _Running(task)
        nursery.start_soon(self._run, running, work)
        return task

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
                self._ended[task.ident] = self._broken_off(task) if task.state is TaskState.RUNNING else task

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
