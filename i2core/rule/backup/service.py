"""The backup role: accepts connections of work nodes, serves one session on each, and carries out an administrator's
commands on received rules."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from i2core import __version__
from i2core.api import SESSION_CHANNELS, Channel, I2Error, LinkError, StopRule, UsageError
from i2core.api.threads import own_threads
from i2core.config.model import BackupRole
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers
from i2core.rule.backup.entry.greeting import read_greeting, refuse
from i2core.rule.backup.entry.opening import SessionOpening
from i2core.rule.backup.entry.ownership import Ownership
from i2core.rule.backup.entry.passes import HistoryFigures, Passes
from i2core.rule.backup.entry.replicas import Replicas
from i2core.rule.backup.entry.rewinds import Rewinds, shown
from i2core.rule.backup.entry.snapshots import Snapshots
from i2core.rule.backup.replica.position import Position, PositionFile, known_positions
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.replica.rewound import Rewound
from i2core.rule.backup.session.receive import OpenSession, Receiver
from i2core.rule.life.report import Say, of_peer
from i2core.rule.life.status import Received
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import Hello, Welcome, dump

if TYPE_CHECKING:
    from i2core.history.record.history import History

_POSITIONS = "positions"


def has_positions(state_dir: Path) -> bool:
    """True when a backup role with that state directory has ever received a rule."""
    return bool(known_positions(state_dir / _POSITIONS))


def forget_positions(state_dir: Path) -> None:
    """Forgets all rules that a backup role with that state directory has received; the data stay. The role must not be
    running.

    Raises:
    StopRule: the files cannot be removed.
    """
    for position in known_positions(state_dir / _POSITIONS):
        PositionFile(state_dir / _POSITIONS, position.peer, position.rule).forget()


@attrs.frozen(kw_only=True)
class BackupRuleStatus:
    """Live figures of one received rule."""

    name: str
    peer: str
    applied_seq: int
    durable_seq: int
    applied_records: int
    applied_bytes: int
    state: Received
    held_reason: str
    turned_back: str
    """The moment to which an administrator has turned the replica back; empty: it follows its work node."""
    fault: I2Error | None
    """Why the last session was refused or ended, if a person must act."""
    orphans: int
    history: HistoryFigures | None = None
    """What its history keeps; None: it has none, or that is not known yet."""

    @property
    def held(self) -> bool:
        """A mass delete, or a replica that was turned back, waits for its release."""
        return self.state is Received.HELD


def _refuse_several(rule: str, peers: Sequence[str]) -> None:
    """Several work nodes may have a rule of this name: a command meant for one must not affect another."""
    if len(peers) > 1:
        names = ", ".join(f"{peer}/{rule}" for peer in sorted(peers))
        raise UsageError(
            bilingual(f"several work nodes have a rule of this name: {names}", f"多台工作机有同名规则：{names}"),
            obj=rule,
            next_step=bilingual("name the one that is meant, as PEER/RULE", "请用“对端/规则名”指明其中一条"),
        )


class BackupService:
    """Receives rules. `handle` serves one accepted stream and is given to the transport."""

    def __init__(
        self,
        role: BackupRole,
        *,
        registry: Drivers,
        state_dir: Path,
        say: Say,
        node: str = "backup",
        secret: bytes = b"",
        keeps_histories: bool = True,
    ) -> None:
        """`secret`: the node's own; None: the one kept in `state_dir`. `keeps_histories`: False for a simulation
        without files of SQLite on its disks: a rule gets no history, whatever it asks for."""
        self._say = say
        self._node = node
        self._replicas = Replicas(state_dir / _POSITIONS, say)
        self._opening = SessionOpening(
            role,
            registry,
            self._replicas,
            Ownership(self._replicas, node, say),
            state_dir=state_dir,
            secret=secret,
            say=say,
            keeps_histories=keeps_histories,
        )
        self.passes = Passes(self._replicas, self._opening.open_history)
        """Give up the past; `run` is for a task of the node."""
        self.snapshots = Snapshots(self._replicas, self._opening, role, registry, state_dir / "snapshots")
        """Those of all replicas; `run` is for a task of the node, and takes the automatic ones."""
        self.rewinds = Rewinds(self._replicas, self._opening.open_history)
        """Turn replicas back."""

    # ------------------------------------------------------------------------------------------ sessions

    async def handle(self, stream: trio.abc.Stream, channel: Channel, peer: str | None) -> None:
        """Serves one stream until the peer ends it. Errors are reported to the peer, logged, and not raised."""
        who = peer or "local"
        with own_threads(self._opening.admission.threads(who)):
            await self._handle(FrameStream(stream), channel, who)

    async def _handle(self, frames: FrameStream, channel: Channel, who: str) -> None:
        try:
            with self._opening.admission.greeting(who):
                hello = await read_greeting(frames, channel)
            try:
                await self._serve(frames, hello, who)
            except I2Error as error:
                self._report(hello.rule, who, error)
        except I2Error as error:
            of_peer(self._say, who)("", error.code, f"{who}: {error}")
            await refuse(frames, error)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await frames.aclose()

    async def _serve(self, frames: FrameStream, hello: Hello, who: str) -> None:
        welcomed = False
        try:
            async with self._opening.open(hello, who) as session:
                await self._welcome(frames, session)
                welcomed, session.replica.fault = True, None
                await Receiver(frames, session).run()
        except I2Error as error:
            if not welcomed:
                await refuse(frames, error)
            raise

    async def _welcome(self, frames: FrameStream, session: OpenSession) -> None:
        replica = session.replica
        async with replica.apply_lock:  # the previous session may still be applying records, which count as well
            welcome = Welcome(
                version=__version__,
                node=self._node,
                applied_seq=replica.progress.applied_seq,
                durable_seq=replica.durable_seq,
                exact=replica.is_exact,
                owns=session.sink.owns,
                anew=replica.position.anew,
            )
        await frames.send(FrameType.WELCOME, dump(welcome))

    def _report(self, rule: str, who: str, error: I2Error) -> None:
        """Logs why a session has ended. An error that needs a person stays in the rule's status."""
        say = of_peer(self._say, who)
        if isinstance(error, LinkError):
            say(rule, error.code, f"session of {who} ended: {error}")
            return
        replica = self._replicas.get((who, rule))
        if replica is not None and isinstance(error, StopRule | UsageError):
            replica.fault = error
        say(rule, error.code, f"session of {who} stopped: {error}")

    # ------------------------------------------------------------------------------------------ histories

    @asynccontextmanager
    async def history(self, rule: str, peer: str | None = None) -> AsyncIterator[History]:
        """The history of a received rule, open for as long as the block runs, whether or not a session is.

        Raises:
            UsageError: no such rule has a target here, it has no history, or several peers have a rule of that name and
                `peer` is None.
            StopRule: it cannot be opened.
        """
        known = [position for position in self._known(rule, peer) if position.targets]
        if not known:
            raise UsageError(bilingual("no rule of that name has a target here", "此处没有该规则的目标"), obj=rule)
        key = (known[0].peer, rule)
        replica = self._replicas.keep(self._replicas.of(key))
        end_sessions = partial(self._replicas.end_sessions, key, SESSION_CHANNELS)
        async with replica.recording.used(self._opening.open_history(replica), end_sessions) as history:
            if history is None:
                raise UsageError(bilingual("the rule has no history", "该规则没有历史"), obj=rule)
            yield history

    def history_figures(self, rule: str, peer: str) -> HistoryFigures | None:
        """What the history of a replica keeps, as it was known last; None: nothing is known."""
        replica = self._replicas.get((peer, rule))
        return None if replica is None else self.passes.figures(replica)

    # ------------------------------------------------------------------------------------------ administration

    def statuses(self) -> list[BackupRuleStatus]:
        """One entry for each rule received since the start."""
        busy = self._replicas.busy()
        return [
            _status(replica, (replica.peer, replica.rule) in busy, self.passes.figures(replica))
            for replica in self._replicas.received()
        ]

    def positions(self) -> list[Position]:
        """The positions of all rules that were ever received; read from disk."""
        return self._replicas.known()

    def position(self, rule: str, peer: str | None = None) -> Position | None:
        """The position of a received rule of `peer` (None: of the only peer that has such a rule); None: no such rule
        was ever received.

        Raises:
            UsageError: several peers have a rule of that name and `peer` is None.
        """
        known = self._known(rule, peer)
        return known[0] if known else None

    def forget(self, rule: str, peer: str | None = None) -> bool:
        """Forgets the owner of a rule's targets, so that another rule may take them; the data stay. False when no rule
        of that name was ever received from `peer` (None: from anyone).

        Raises:
            UsageError: the rule is being received, or its past is being read; or several peers have a rule of that
            name and `peer` is None.
        """
        known = self._known(rule, peer)
        for position in known:
            self._refuse_in_use(position.peer, rule)
            self._replicas.forget((position.peer, rule))
        return bool(known)

    def _refuse_in_use(self, peer: str, rule: str) -> None:
        if (peer, rule) in self._replicas.busy():
            raise UsageError(
                bilingual(f"{peer} is sending it", f"{peer} 正在发送该规则"),
                obj=rule,
                next_step=bilingual(f"stop the rule on {peer} first", f"请先在 {peer} 上停止该规则"),
            )
        replica = self._replicas.get((peer, rule))
        if replica is not None and (replica.recording.used_now or self.snapshots.used((peer, rule))):
            raise UsageError(
                bilingual("its past is being read, by a mount or a recovery", "其历史正被挂载或恢复任务读取"),
                obj=rule,
                next_step=bilingual("end that first: see i2 task list", "请先结束该任务：参见 i2 task list"),
            )

    async def hand_over(self, rule: str, peer: str | None, heir: str, heir_rule: str) -> bool:
        """Permits the rule `heir_rule` of the work node `heir` to take the targets of a rule of `peer` (None: of the
        only peer that has such a rule). The permission is kept until the heir connects; then the old owner is locked
        out. False when no such rule was ever received.

        Raises:
        UsageError: several peers have a rule of that name and `peer` is None.
        StopRule: the permission cannot be saved.
        """
        known = self._known(rule, peer)
        for owner in known:
            await self._replicas.of((owner.peer, rule)).hand_over((heir, heir_rule))
            self._say(
                rule, None, f"rule {heir_rule} of {heir} may take over the targets of rule {rule} of {owner.peer}"
            )
        return bool(known)

    async def release(self, rule: str, peer: str | None = None) -> bool:
        """Releases a held mass delete, or a replica that was turned back; False when nothing is held for that rule of
        `peer` (None: of the only peer that has such a rule).

        Raises:
            UsageError: several peers have a rule of that name and `peer` is None; or the replica is being turned back.
            StopRule: the release cannot be saved.
        """
        found = [each for each in self._replicas.received() if each.rule == rule and peer in (None, each.peer)]
        _refuse_several(rule, [each.peer for each in found])
        if found and found[0].deletes.release():
            return True
        return bool(found) and await self.rewinds.release((found[0].peer, rule))

    def _known(self, rule: str, peer: str | None) -> list[Position]:
        known = [each for each in self._replicas.known() if each.rule == rule and peer in (None, each.peer)]
        _refuse_several(rule, [each.peer for each in known])
        return known


def _status(replica: Replica, busy: bool, history: HistoryFigures | None) -> BackupRuleStatus:
    return BackupRuleStatus(
        name=replica.rule,
        peer=replica.peer,
        applied_seq=replica.progress.applied_seq,
        durable_seq=replica.durable_seq,
        applied_records=replica.counters.records,
        applied_bytes=replica.counters.bytes,
        state=_state(replica, busy),
        held_reason=replica.deletes.reason,
        turned_back=shown(replica.position) if _is_turned_back(replica) else "",
        fault=replica.fault,
        orphans=replica.counters.orphans,
        history=history,
    )


def _state(replica: Replica, busy: bool) -> Received:
    if replica.deletes.reason or _is_turned_back(replica):
        return Received.HELD
    if replica.fault is not None:
        return Received.STOPPED
    return Received.RECEIVING if busy else Received.WAITING


def _is_turned_back(replica: Replica) -> bool:
    rewound = Rewound.of(replica.position.rewind)
    return rewound is not None and rewound.holds
