"""Turns replicas of a backup role back in place, while their rules are stopped.

What is to be done is noted in the position before anything changes. From then on the work node is refused, until an
administrator releases the replica: it would make the replica equal to its own files again, which somebody has just
turned back from. A rewind that was cut off goes on at the next start.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from i2core.api import DATA_CHANNELS, Code, Line, StopRule, UsageError, in_thread
from i2core.config.words import bilingual
from i2core.rule.backup.entry.owners import Key
from i2core.rule.backup.entry.replicas import Replicas
from i2core.rule.backup.replica.position import Position
from i2core.rule.backup.replica.recording import Open
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.replica.rewound import Rewound, Stage

if TYPE_CHECKING:
    from i2core.history.record.history import History
    from i2core.history.rewind.turning import Progress, Turned


class Rewinds:
    """The rewinds of one role."""

    def __init__(self, replicas: Replicas, open_history: Callable[[Replica], Open]) -> None:
        self._replicas = replicas
        self._open_history = open_history
        self._running: set[Key] = set()

    def unfinished(self) -> list[tuple[Key, Rewound]]:
        """Those that a crash has cut off. Called at the start; blocks. Replicas that are held are known from now on."""
        found = []
        for position in self._replicas.known():
            rewound = Rewound.of(position.rewind)
            if rewound is not None and rewound.holds:
                key = (position.peer, position.rule)
                self._replicas.keep(self._replicas.of(key))
                if rewound.stage is Stage.UNDER_WAY:
                    found.append((key, rewound))
        return found

    def check(self, key: Key) -> None:
        """Raises UsageError: the rule runs, or its replica is being turned back."""
        self._refuse_in_use(key)

    async def note(self, key: Key, seq: int, time_ns: int) -> Rewound:
        """The replica is to be turned back to the moment; its work node is refused from now on.

        Raises:
            UsageError: the rule runs, or the replica is being turned back.
            StopRule: it cannot be noted.
        """
        self._refuse_in_use(key)
        replica = self._replicas.keep(self._replicas.of(key))
        before = Rewound.of(replica.position.rewind)
        rewound = Rewound(seq, time_ns, Stage.UNDER_WAY)
        self._running.add(key)
        try:
            await replica.rewind(rewound)
            if key in self._replicas.busy():  # it began to open before it could see the note
                await replica.rewind(before)
                self._refuse_in_use(key)
        finally:
            self._running.discard(key)
        return rewound

    async def run(self, key: Key, rewound: Rewound, show: Callable[[Progress], None]) -> Turned:
        """Turns the replica back as noted. Begun again after an error or a crash, it goes on.

        Raises:
            UsageError: another one is under way.
            MomentGone: the moment is not kept any more.
            StopRule, LinkError, OSError: as `Turning.run`.
        """
        from i2core.history.rewind.turning import Turning

        replica = self._replicas.keep(self._replicas.of(key))
        async with self._alone(key), self._history(replica) as history:
            with history.pins.pin(rewound.seq):
                turning = Turning(history, rewound.seq, partial(_flush, replica, history))
                show(turning.progress)
                async with replica.apply_lock:
                    turned = await turning.run()
            if turned.equal:
                await replica.rewind(rewound._replace(stage=Stage.HELD))
                cause = bilingual(
                    f"the replica was turned back to {shown(replica.position)}",
                    f"灾备数据已回退到 {shown(replica.position)}",
                )
                replica.say(Code.TURNED_BACK, Line(cause, code=Code.TURNED_BACK, obj=replica.rule, cause=cause))
        return turned

    async def release(self, key: Key) -> bool:
        """The work node may write again; False when it may already.

        Raises:
            UsageError: the replica is being turned back just now.
            StopRule: it cannot be noted.
        """
        replica = self._replicas.of(key)
        rewound = Rewound.of(replica.position.rewind)
        if rewound is None or not rewound.holds:
            return False
        self._refuse_running(key)
        await replica.rewind(rewound._replace(stage=Stage.RELEASED))
        return True

    @asynccontextmanager
    async def _alone(self, key: Key) -> AsyncIterator[None]:
        self._refuse_running(key)
        self._running.add(key)
        try:
            yield
        finally:
            self._running.discard(key)

    @asynccontextmanager
    async def _history(self, replica: Replica) -> AsyncIterator[History]:
        key = (replica.peer, replica.rule)
        end_sessions = partial(self._replicas.end_sessions, key, DATA_CHANNELS)
        async with replica.recording.used(self._open_history(replica), end_sessions) as history:
            if history is None:
                raise UsageError(bilingual("the rule has no history", "该规则没有历史"), obj=replica.rule)
            yield history

    def _refuse_in_use(self, key: Key) -> None:
        self._refuse_running(key)
        peer, rule = key
        if key in self._replicas.busy():
            raise UsageError(
                bilingual(f"{peer} is sending it", f"{peer} 正在发送该规则"),
                obj=rule,
                next_step=bilingual(f"stop the rule on {peer} first", f"请先在 {peer} 上停止该规则"),
            )

    def _refuse_running(self, key: Key) -> None:
        if key in self._running:
            raise UsageError(
                bilingual("its replica is being turned back just now", "其灾备数据正在回退"),
                obj=key[1],
                next_step=bilingual("see i2 task list", "参见 i2 task list"),
            )


async def _flush(replica: Replica, history: History) -> None:
    """What was carried out becomes durable, then the position says so."""
    async with history.recorder.certain() as durable:
        pass
    async with replica.flush_lock:
        await in_thread(history.replica.flush)
        await replica.mark_durable(replica.durable_seq, replica.exchanges, durable)
        history.durable = durable


def shown(position: Position) -> str:
    """The moment to which a replica was turned back, as people write it; empty: it was not."""
    rewound = Rewound.of(position.rewind)
    if rewound is None:
        return ""
    # Imported now: a node whose rules want no history loads nothing of it.
    from i2core.history.moments.text import format_moment
    from i2core.history.moments.zones import zone_or_local

    return format_moment(rewound.time_ns, zone_or_local(position.zone))


def refuse_turned_back(position: Position) -> None:
    """Raises StopRule: somebody has turned the replica back, and has not released it."""
    rewound = Rewound.of(position.rewind)
    if rewound is None or not rewound.holds:
        return
    name = f"{position.peer}/{position.rule}"
    raise StopRule(
        bilingual(
            f"the replica was turned back to {shown(position)}; mirroring would undo that",
            f"灾备数据已回退到 {shown(position)}；镜像会使其失效",
        ),
        code=Code.TURNED_BACK,
        obj=position.rule,
        next_step=bilingual(
            f"if the source is to be mirrored over it: i2 rule release {name} on the backup node, then start the rule",
            f"若确需用源端覆盖：在灾备机上执行 i2 rule release {name}，然后启动规则",
        ),
    )
