"""The recovery port of a backup node: TCP 26831, with TLS and pins like all streams.

A work node connects. What it may do depends on the config: it recovers the rules that ``recover`` of its
``[[backup.peer]]`` names, and it waits for orders. The backup node is the one that sends, whoever has begun.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import attrs
import trio

from i2core import __version__
from i2core.api import Channel, Code, I2Error, LinkError, PeerRefused, ProtocolError, StopRule, UsageError
from i2core.api.threads import own_threads
from i2core.config.words import bilingual
from i2core.node.daemon.past_state import AtOrSnapshot, choose, opened
from i2core.node.daemon.recovering import Show, Wanted, bring_back
from i2core.node.daemon.recovery_talk import Figures, Job, concluded, push
from i2core.posix.path_text import as_path
from i2core.recovery.order import Extra
from i2core.recovery.remote.caller import Caller
from i2core.recovery.remote.far_end import FarEnd
from i2core.recovery.tried import place_of
from i2core.rule.life.report import Line, of_peer
from i2core.tasks import background
from i2core.wire.frame import Frame, FrameStream, FrameType
from i2core.wire.messages import parse, protocol_of
from i2core.wire.recovery import ORDER_BYTES, RECOVERY_PROTOCOL, Recover, Stream, Wait

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode

CONNECTIONS = 32
"""Connections of one peer at the same time: conversations and their sessions."""
THREADS = 4
"""Worker threads of one peer."""
GREETING_S = 30.0
TICKET_S = 30.0
"""How long a work node may take to connect for a session."""
Ticketed = Callable[[Callable[[str], Awaitable[None]]], Awaitable[trio.abc.Stream]]


@attrs.define
class _Ticket:
    peer: str
    stream: trio.abc.Stream | None = None
    arrived: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define
class _Waiting:
    """A work node that waits for orders."""

    caller: Caller
    taken: bool = False
    done: trio.Event = attrs.field(factory=trio.Event)


class RecoveryPort:
    """Serves the connections of work nodes on the recovery channel."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._open: Counter[str] = Counter()
        self._threads: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()
        self._tickets: dict[str, _Ticket] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._changed = trio.Event()
        """Somebody has begun to wait."""

    async def handle(self, stream: trio.abc.Stream, channel: Channel, peer: str | None) -> None:
        """Serves one connection. Errors are reported to the peer, logged, and not raised.

        Raises:
            PeerRefused: it has no identity, or too many connections.
        """
        del channel
        if peer is None:
            raise PeerRefused("a peer in plaintext has no identity")
        frames = FrameStream(stream)
        with self._counted(peer), own_threads(self._threads_of(peer)):
            try:
                await self._serve(frames, stream, await _first(frames), peer)
            except I2Error as error:
                of_peer(self._node.logbook.say, peer)("", error.code, Line.of(error, f"recovery for {peer}: "))
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                    await frames.aclose()

    @contextmanager
    def _counted(self, peer: str) -> Iterator[None]:
        if self._open[peer] >= CONNECTIONS:
            raise PeerRefused(f"{peer} has {CONNECTIONS} connections for recoveries open")
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _threads_of(self, peer: str) -> trio.CapacityLimiter:
        limiter = self._threads.get(peer)
        if limiter is None:
            limiter = self._threads[peer] = trio.CapacityLimiter(THREADS)
        return limiter

    async def _serve(self, frames: FrameStream, stream: trio.abc.Stream, first: Frame, peer: str) -> None:
        if first.type is FrameType.STREAM:
            await self._session(stream, parse(first.payload, Stream), peer)
        elif first.type is FrameType.WAIT:
            _check_protocol(first)
            parse(first.payload, Wait)
            await self._wait(frames, peer)
        elif first.type is FrameType.RECOVER:
            _check_protocol(first)
            await self._recover(frames, parse(first.payload, Recover), peer)
        else:
            raise ProtocolError(f"expected a recovery, got {first.type.name}")

    # ------------------------------------------------------------------------------------------ sessions

    async def _session(self, stream: trio.abc.Stream, named: Stream, peer: str) -> None:
        """Hands the connection to the recovery that has asked for it, until that has ended."""
        ticket = self._tickets.get(named.ticket)
        if ticket is None or ticket.peer != peer or ticket.stream is not None:
            raise ProtocolError("a session that nobody has asked for")
        ticket.stream = stream
        ticket.arrived.set()
        await ticket.ended.wait()

    @asynccontextmanager
    async def _sessions(self, peer: str) -> AsyncIterator[Ticketed]:
        """A `Ticketed` for one recovery of that peer; its connections end with the body."""
        mine: list[str] = []

        async def ticketed(send: Callable[[str], Awaitable[None]]) -> trio.abc.Stream:
            name, ticket = secrets.token_hex(16), _Ticket(peer)
            mine.append(name)
            self._tickets[name] = ticket
            with trio.move_on_after(TICKET_S):
                await send(name)
                await ticket.arrived.wait()
            if ticket.stream is None:
                raise LinkError(f"{peer} did not connect for a session within {TICKET_S:g} s")
            return ticket.stream

        try:
            yield ticketed
        finally:
            for name in mine:
                self._tickets.pop(name).ended.set()

    # ------------------------------------------------------------------------------------------ begun by a work node

    async def _recover(self, frames: FrameStream, asked: Recover, peer: str) -> None:
        caller = Caller(frames)
        async with background() as nursery:
            nursery.start_soon(caller.run)
            async with concluded(caller) as conclude:
                conclude(await self._outcome(caller, asked, peer))

    async def _outcome(self, caller: Caller, asked: Recover, peer: str) -> dict[str, Any]:
        name = self._allowed(asked, peer)
        at = AtOrSnapshot(at=asked.at, at_seq=asked.at_seq, nearest=asked.nearest, snapshot=asked.snapshot)
        chosen = await choose(self._node, name, at)
        await caller.tell(FrameType.PROGRESS, chosen.as_json())
        wanted = Wanted(
            paths=[os.fsdecode(as_path(path)) for path in asked.paths],
            root=as_path(asked.root),
            extra=Extra(asked.extra),
            strict=asked.strict,
            prove=asked.prove,
            dry_run=asked.dry_run,
        )
        return await self._carry_out(caller, peer, Job(name, wanted, chosen, as_path(asked.to)), lambda figures: None)

    def _allowed(self, asked: Recover, peer: str) -> str:
        """The rule as ``PEER/RULE``.

        Raises:
            UsageError: this peer may not recover it (3602), and the answer is the same if there is none; or several
                peers have a rule of that name.
        """
        role, backup = self._node.config.backup, self._node.backup
        assert role is not None and backup is not None
        allowed = next((entry.recover for entry in role.peers if entry.name == peer), ())
        sender = asked.peer or (peer if backup.position(asked.rule, peer) is not None else None)
        if any(name.rpartition("/")[2] == asked.rule for name in allowed):
            position = backup.position(asked.rule, sender)
            if position is not None and {asked.rule, f"{position.peer}/{asked.rule}"} & set(allowed):
                return f"{position.peer}/{asked.rule}"
        raise UsageError(
            bilingual(f"{peer} may not recover it there", f"{peer} 无权恢复该规则"),
            code=Code.PEER_REFUSED,
            obj=asked.rule,
            next_step=bilingual(
                "name the rule in recover of this node's [[backup.peer]] on the backup node",
                "请在灾备机上该节点的 [[backup.peer]] 的 recover 中列出该规则",
            ),
        )

    # ------------------------------------------------------------------------------------------ begun here

    async def _wait(self, frames: FrameStream, peer: str) -> None:
        """Keeps a work node waiting until an order for it was carried out."""
        waiting = _Waiting(Caller(frames))
        before, self._waiting[peer] = self._waiting.get(peer), waiting
        if before is not None and not before.taken:
            before.done.set()  # its link broke before this node has noticed
        try:
            async with background() as nursery:
                nursery.start_soon(waiting.caller.run)
                self._changed.set()
                self._changed = trio.Event()
                await waiting.done.wait()
        finally:
            if self._waiting.get(peer) is waiting:
                del self._waiting[peer]

    async def waits(self, peer: str) -> None:
        """Returns when that work node waits for orders."""
        while not self._is_waiting(peer):
            await self._changed.wait()

    def _is_waiting(self, peer: str) -> bool:
        waiting = self._waiting.get(peer)
        return waiting is not None and not waiting.taken

    async def order(self, peer: str, job: Job, show: Show) -> dict[str, Any]:
        """Recovers to a directory of a work node that waits for orders.

        Raises:
            LinkError: the link broke; another order continues.
            I2Error: the work node refuses it, or as `bring_back`.
        """
        if not self._is_waiting(peer):
            raise LinkError("it does not wait for orders any more", obj=peer)
        waiting = self._waiting[peer]
        waiting.taken = True
        try:
            async with background() as nursery:
                nursery.start_soon(waiting.caller.lost)
                async with concluded(waiting.caller) as conclude:
                    await waiting.caller.tell(FrameType.ORDER, job.order())
                    outcome = await self._carry_out(waiting.caller, peer, job, show)
                    conclude(outcome)
            return outcome
        finally:
            waiting.done.set()

    async def _carry_out(self, caller: Caller, peer: str, job: Job, show: Show) -> dict[str, Any]:
        latest: dict[str, Any] = {}

        def note(figures: Figures) -> None:
            latest.update(figures)
            show(figures)

        async with (
            opened(self._node, job.rule, job.chosen) as state,
            self._sessions(peer) as ticketed,
            background() as nursery,
        ):
            nursery.start_soon(push, caller, latest)
            end = FarEnd(job.to, peer, caller, ticketed)
            place = place_of(self._node.config.state_dir, state.rule.peer, state.rule.rule)
            outcome = await bring_back(
                state, job.wanted, job.chosen, end, place=place, say=self._node.logbook.say, show=note
            )
            await caller.tell(FrameType.PROGRESS, latest)
        return outcome


async def _first(frames: FrameStream) -> Frame:
    """The first message of a connection.

    Raises:
        LinkError: none came in time.
        ProtocolError: it is too long.
    """
    with trio.move_on_after(GREETING_S):
        frame = await frames.receive()
        if frame is None:
            raise LinkError("no greeting arrived")
        if len(frame.payload) > ORDER_BYTES:
            raise ProtocolError(f"a greeting of {len(frame.payload)} bytes exceeds the limit of {ORDER_BYTES}")
        return frame
    raise LinkError("no greeting arrived")


def _check_protocol(first: Frame) -> None:
    spoken = protocol_of(first.payload)
    if spoken != RECOVERY_PROTOCOL:
        raise StopRule(
            f"the work node speaks recovery protocol {spoken}, this node {RECOVERY_PROTOCOL} ({__version__})",
            code=Code.VERSION_MISMATCH,
            next_step="install the same version on both",
        )
