"""Gives up the past of all replicas of a backup role as it was promised: one pass after the other, about one an hour
for each history. Those that nobody uses are opened for it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from i2core.api import SESSION_CHANNELS, Code, I2Error, Line, in_thread
from i2core.config.words import Bilingual
from i2core.rule.backup.entry.owners import Key
from i2core.rule.backup.entry.replicas import Replicas
from i2core.rule.backup.replica.position import Position
from i2core.rule.backup.replica.recording import Open
from i2core.rule.backup.replica.replica import Replica

if TYPE_CHECKING:
    from i2core.history.retention.figures import Figures
    from i2core.history.retention.thinner import Thinner

FIRST_S = 300.0
"""Work nodes connect before the first pass."""
LOOK_S = 300.0
"""How often the room of the open histories is looked at, and which pass is due."""
AGAIN_S = 3600.0
"""After a pass that failed."""


class HistoryFigures(NamedTuple):
    """What a history keeps, and when it is looked through next."""

    kept: Figures
    next_pass_s: float

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return self.kept.as_json() | {"next_pass_seconds": round(self.next_pass_s)}


class Passes:
    """The passes of one role."""

    def __init__(self, replicas: Replicas, open_history: Callable[[Replica], Open]) -> None:
        self._replicas = replicas
        self._open_history = open_history
        self._due_s: dict[Key, float] = {}
        """When the next pass of a history is due, by the clock of trio. None is due later than that."""
        self._first_s = 0.0
        """When the passes begin."""
        self._figures: dict[Key, Figures] = {}
        """As they were when the history was open last."""

    async def run(self) -> None:
        """Passes without end. What fails is logged."""
        self._first_s = trio.current_time() + FIRST_S
        await trio.sleep(FIRST_S)
        while True:
            await self.run_once()
            await trio.sleep(LOOK_S)

    async def run_once(self) -> None:
        """The passes that are due, and a look at the room of the other histories."""
        try:
            known = await in_thread(self._replicas.known)
        except I2Error:  # descriptors are exhausted, or the disk fails: sessions tell
            return
        for position in known:
            if position.history and position.targets:
                await self._attend_to(position)

    def due_in_s(self, key: Key) -> float:
        """Seconds to the next pass of this history; not positive: it comes next."""
        return self._due_s.get(key, 0.0) - trio.current_time()

    def figures(self, replica: Replica) -> HistoryFigures | None:
        """What the history of a replica keeps, as it was known last; None: it has none, or nobody has opened it since
        the start."""
        history, key = replica.recording.current, (replica.peer, replica.rule)
        if history is not None and history.thinner is not None:
            self._figures[key] = history.thinner.figures()
        if not replica.recording.begun or key not in self._figures:
            return None
        next_pass_s = max(self.due_in_s(key), self._first_s - trio.current_time(), 0.0)
        return HistoryFigures(self._figures[key], next_pass_s)

    async def _attend_to(self, position: Position) -> None:
        key = (position.peer, position.rule)
        is_due = self.due_in_s(key) <= 0
        current = self._replicas.of(key).recording.current
        if not is_due and (current is None or current.thinner is None):
            return
        replica = self._replicas.keep(self._replicas.of(key))
        pause_s = AGAIN_S
        try:
            if not is_due:
                await self._look(replica)
                return
            pause_s = await self._pass(replica)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EUCLEAN:
                pause_s = LOOK_S  # a session has opened the history again
            else:
                _tell(replica, error)
        finally:
            self._replicas.rest(replica)
        self._due_s[key] = trio.current_time() + pause_s

    async def _pass(self, replica: Replica) -> float:
        """One pass; seconds to the next one."""
        key = (replica.peer, replica.rule)
        end_sessions = partial(self._replicas.end_sessions, key, SESSION_CHANNELS)
        async with replica.recording.used(self._open_history(replica), end_sessions) as history:
            if history is None or history.thinner is None:
                return AGAIN_S
            await history.thinner.run_once(partial(_report, replica))
            self.figures(replica)
            pause_s: float = history.thinner.pause_s()
            return pause_s

    @staticmethod
    async def _look(replica: Replica) -> None:
        history = replica.recording.current
        if history is not None and history.thinner is not None:
            thinner: Thinner = history.thinner
            await thinner.look(partial(_report, replica))


def _report(replica: Replica, code: Code, text: Bilingual) -> None:
    replica.say(code, Line(text, code=code, obj=f"{replica.peer}/{replica.rule}", cause=text))


def _tell(replica: Replica, error: Exception) -> None:
    obj, cause, next_step = f"{replica.peer}/{replica.rule}", repr(error), ""
    if isinstance(error, I2Error):
        obj, cause, next_step = error.obj or obj, error.cause, error.next_step
    unknown = Code.OPEN_REPLICA if isinstance(error, OSError) else Code.INTERNAL
    code = error.code if isinstance(error, I2Error) else unknown
    text = f"history is not given up as promised: {error}"
    replica.say(code, Line(text, code=code, obj=obj, cause=cause, next_step=next_step))
