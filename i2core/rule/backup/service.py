"""The backup role: greets work nodes, checks what they may write, and runs one receiver per session."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from i2core import __version__
from i2core.api import (
    DATA_CHANNELS,
    Channel,
    Code,
    DriverKind,
    I2Error,
    LinkError,
    ProtocolError,
    Sink,
    SinkContext,
    StopRule,
    UsageError,
)
from i2core.config.model import BackupRole, DriverChoice
from i2core.config.options import structure_options
from i2core.config.words import Spoken
from i2core.pipeline.chain import CodecChain
from i2core.pipeline.select import Drivers, open_codecs
from i2core.rule.backup.receive import Receiver
from i2core.rule.backup.replica import Position, PositionFile, Replica, known_positions
from i2core.rule.line import Say, code_in
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import PROTOCOL_VERSION, Fault, Hello, Welcome, dump, parse, protocol_of
from i2core.wire.session import GREETING_S

GREETING_BYTES = 1 << 20
"""JSON takes far more memory than it takes on the wire."""


@attrs.frozen(kw_only=True)
class BackupRuleStatus:
    """Live figures of one received rule."""

    name: str
    peer: str
    applied_seq: int
    durable_seq: int
    applied_records: int
    applied_bytes: int
    held: bool
    held_reason: str
    orphans: int


def _ignored(_seq: int) -> None:
    pass


async def _refuse(frames: FrameStream, error: I2Error) -> None:
    with trio.move_on_after(2), contextlib.suppress(LinkError):
        await frames.send(FrameType.REFUSE, dump(Fault.of(error)))


class BackupService:
    """Receives rules. `handle` serves one accepted stream and is given to the transport."""

    def __init__(self, role: BackupRole, *, registry: Drivers, state_dir: Path, say: Say, node: str = "backup") -> None:
        self._role = role
        self._drivers = registry
        self._positions = state_dir / "positions"
        self._say = say
        self._node = node
        self._replicas: dict[tuple[str, str], Replica] = {}
        self._sessions: dict[tuple[str, str, str], trio.CancelScope] = {}
        self._owning = trio.Lock()

    def statuses(self) -> list[BackupRuleStatus]:
        """One entry per rule that was received since the start."""
        return [
            BackupRuleStatus(
                name=replica.rule,
                peer=replica.peer,
                applied_seq=replica.applied_seq,
                durable_seq=replica.durable_seq,
                applied_records=replica.applied_records,
                applied_bytes=replica.applied_bytes,
                held=bool(replica.held_reason),
                held_reason=replica.held_reason,
                orphans=replica.orphans,
            )
            for replica in self._replicas.values()
        ]

    def forget(self, rule: str) -> bool:
        """Forgets who owns the targets of a rule, which may then be another's; the data stay. False when no rule of
        that name was ever received.

        Raises:
            UsageError: it is being received.
        """
        known = [each for each in known_positions(self._positions) if each.rule == rule]
        for position in known:
            key = (position.peer, rule)
            if any(session[:2] == key for session in self._sessions):
                raise UsageError(
                    Spoken.of(f"{position.peer} is sending it", f"{position.peer} 正在发送该规则"),
                    obj=rule,
                    next_step=Spoken.of(
                        f"stop the rule on {position.peer} first", f"请先在 {position.peer} 上停止该规则"
                    ),
                )
            PositionFile(self._positions, *key).forget()
            self._replicas.pop(key, None)
        return bool(known)

    def release(self, rule: str) -> bool:
        """Lets a held mass delete through; False when none is held for that rule."""
        released = [replica.release() for replica in self._replicas.values() if replica.rule == rule]
        return any(released)

    async def handle(self, stream: trio.abc.Stream, channel: Channel, peer: str | None) -> None:
        """Serves one stream until the peer ends it. Errors are told to the peer and the logbook, and end here."""
        frames = FrameStream(stream)
        who = peer or "local"
        try:
            hello = await self._greet(frames, channel)
            try:
                await self._serve(frames, hello, who)
            except I2Error as error:
                if isinstance(error, LinkError):
                    self._say(hello.rule, error.code, f"session of {who} ended: {error}")
                else:
                    self._say(hello.rule, error.code, f"session of {who} stopped: {error}")
        except I2Error as error:
            self._say("", error.code, f"{who}: {error}")
            await _refuse(frames, error)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await frames.aclose()

    async def _greet(self, frames: FrameStream, channel: Channel) -> Hello:
        with trio.move_on_after(GREETING_S) as patience:
            frame = await frames.receive()
        if patience.cancelled_caught or frame is None:
            raise LinkError("no greeting came")
        if frame.type is not FrameType.HELLO:
            raise ProtocolError(f"expected a greeting, got {frame.type.name}")
        if len(frame.payload) > GREETING_BYTES:
            raise ProtocolError(f"a greeting of {len(frame.payload)} bytes exceeds the limit of {GREETING_BYTES}")
        spoken = protocol_of(frame.payload)
        if spoken != PROTOCOL_VERSION:
            raise StopRule(
                f"the work node speaks protocol {spoken}, this node {PROTOCOL_VERSION} ({__version__})",
                code=Code.VERSION_MISMATCH,
                next_step="install the same version on both",
            )
        hello = parse(frame.payload, Hello)
        if hello.channel != channel.value:
            raise ProtocolError(f"a greeting for {hello.channel} on the {channel.value} port")
        return hello

    async def _serve(self, frames: FrameStream, hello: Hello, who: str) -> None:
        welcomed = False
        try:
            async with self._entered(hello, who) as (replica, sink, codecs):
                async with replica.lane:  # what the session before is still applying counts as well
                    welcome = Welcome(
                        version=__version__,
                        node=self._node,
                        applied_seq=replica.applied_seq,
                        durable_seq=replica.durable_seq,
                        exact=replica.exact,
                        owns=sink.owns,
                    )
                await frames.send(FrameType.WELCOME, dump(welcome))
                welcomed = True
                await Receiver(frames, hello, codecs, sink, replica, self._role.flush).run()
        except I2Error as error:
            if not welcomed:
                await _refuse(frames, error)
            raise

    @asynccontextmanager
    async def _entered(self, hello: Hello, who: str) -> AsyncIterator[tuple[Replica, Sink, CodecChain]]:
        """The rule's replica with its sink and codecs open, as the only session on its channel.

        Raises:
            StopRule, UsageError: the session may not be.
        """
        targets = tuple(target.encode("latin-1") for target in hello.targets)
        key = (who, hello.rule)
        self._refuse_overlap(key, hello.epoch, targets)
        replica = self._replica(key)
        # An outdated node is refused before it can end the session of the one that owns the replica.
        replica.check(hello.epoch)
        await self._rivals(key, hello.epoch, targets)
        replica.window.limits = hello.brake
        session = (*key, hello.channel)
        # The work node came back before the broken link was noticed here. It opens the replication channel first.
        begins = hello.channel == Channel.REPLICATION.value or hello.epoch > replica.position.epoch
        self._end_sessions(key, DATA_CHANNELS if begins else (Channel.MIRROR,))
        entered = False
        with trio.CancelScope() as scope:
            self._sessions[session] = scope
            try:
                spec = self._drivers.driver(DriverKind.SINK, self._role.sink.name)
                context = SinkContext(
                    roots=targets,
                    allowed=self._role.allow_roots,
                    # A mirror that is cut off is compared again: how far it came within a batch is of no use.
                    applied=replica.mark if hello.channel == Channel.REPLICATION.value else _ignored,
                    say=lambda line: self._say(hello.rule, code_in(line), line),
                )
                config = structure_options(spec, self._role.sink.options)
                async with (
                    open_codecs(self._drivers, self._codecs(hello), hello.rule) as codecs,
                    spec.open(config, context) as sink,
                ):
                    async with self._owning:
                        # Once more: while this one waited, another may have become the owner.
                        replica.check(hello.epoch)
                        for rival in await self._rivals(key, hello.epoch, targets):
                            await self._lock_out(rival, hello.epoch)
                        await replica.begin(hello.epoch, targets)
                        replica.targets = targets
                    entered = True
                    yield replica, sink, codecs
            finally:
                if self._sessions.get(session) is scope:
                    del self._sessions[session]
                if not any(open_[:2] == key for open_ in self._sessions):
                    replica.rest()
        if not entered:
            raise LinkError("a later session has taken its place")

    def _replica(self, key: tuple[str, str]) -> Replica:
        who, rule = key
        replica = self._replicas.get(key)
        if replica is None:
            say = partial(self._say, rule)
            replica = self._replicas[key] = Replica(rule, who, self._positions, say)
        return replica

    def _codecs(self, hello: Hello) -> tuple[DriverChoice, ...]:
        """The codecs that the work node names; secrets come from this node's own config."""
        key = self._role.keys.get(hello.rule)
        chosen = []
        for codec in hello.codecs:
            if key is not None and codec.name == key.name:
                chosen.append(key)
            else:
                chosen.append(DriverChoice(name=codec.name, options=codec.options))
        if key is not None and key not in chosen:
            raise StopRule(
                "this node requires encryption for the rule, the work node sends without",
                code=Code.DECRYPT,
                obj=hello.rule,
                next_step="set encrypt in the rule",
            )
        return tuple(chosen)

    async def _rivals(self, key: tuple[str, str], epoch: int, targets: tuple[bytes, ...]) -> list[Position]:
        """Who else has written these targets, with an older epoch.

        Raises:
            StopRule: one of them is as young, or younger (3588).
        """
        known = await trio.to_thread.run_sync(known_positions, self._positions)
        rivals = [each for each in known if (each.peer, each.rule) != key and each.overlaps(targets)]
        for rival in rivals:
            if rival.epoch >= epoch:
                raise StopRule(
                    f"the target belongs to rule {rival.rule} of {rival.peer}, epoch {rival.epoch}",
                    code=Code.LOCKED,
                    obj=key[1],
                    next_step=f"i2 rule forget {rival.rule} on {self._node}, if that node is to write it no more",
                )
        return rivals

    async def _lock_out(self, rival: Position, epoch: int) -> None:
        """The rival writes here no more, whatever happens to this node: also what it was applying is over."""
        key = (rival.peer, rival.rule)
        self._end_sessions(key, DATA_CHANNELS)
        replica = self._replica(key)
        replica.targets = ()
        async with replica.lane:
            await replica.begin(epoch, [])

    def _end_sessions(self, key: tuple[str, str], channels: Iterable[Channel]) -> None:
        for channel in channels:
            session = self._sessions.get((*key, channel.value))
            if session is not None:
                session.cancel()

    def _refuse_overlap(self, key: tuple[str, str], epoch: int, targets: tuple[bytes, ...]) -> None:
        """No two rules that are being received may write one place. Between two epochs the younger decides, also over a
        session that lives (`_rivals`)."""
        busy = {(who, rule) for who, rule, _ in self._sessions}
        for other, replica in self._replicas.items():
            if other == key or other not in busy or replica.position.epoch != epoch:
                continue
            for theirs in replica.targets:
                for mine in targets:
                    if (mine + b"/").startswith(theirs + b"/") or (theirs + b"/").startswith(mine + b"/"):
                        raise StopRule(
                            f"rule {replica.rule} of {replica.peer} writes {os.fsdecode(theirs)} already",
                            code=Code.DUPLICATE_TASK,
                            obj=key[1],
                            next_step="give each rule a target of its own",
                        )
