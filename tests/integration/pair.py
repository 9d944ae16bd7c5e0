"""A work node and a backup node in one process, joined by a network in memory: what the tests of whole rules drive.

Everything between the two directories is the real engine; the network can be cut at any message, and the capture says
what a test tells it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio
from i2_sink_fs.plugin import i2_sinks

from i2core.api import (
    Channel,
    ClientTransport,
    Code,
    DriverKind,
    DriverSpec,
    NoConfig,
    Peer,
    TransportContext,
    UsageError,
)
from i2core.config.model import BackupRole, DriverChoice, Pair, Rule
from i2core.rule.backup.service import BackupService
from i2core.rule.status import RuleStatus
from i2core.rule.work.runner import WorkRule, run_rule
from i2core.tasks import background
from i2core.testing import MemoryNet, ScriptedCapture
from i2core.wire.frame import FrameType

LIMIT_S = 10.0
HEADER_BYTES = 16


class Given:
    """A registry of given drivers."""

    def __init__(self, *specs: DriverSpec) -> None:
        self.specs = list(specs)

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The driver of that name; `UsageError` when there is none."""
        for spec in self.specs:
            if (spec.kind, spec.name) == (kind, name):
                return spec
        raise UsageError(f"no {kind.value} {name}")

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All of that kind."""
        return {spec.name: spec for spec in self.specs if spec.kind is kind}


@attrs.define
class Wire(ClientTransport):
    """The work node's transport. Counts what it sends, and breaks the connection once, at a chosen message."""

    net: MemoryNet
    inner: ClientTransport
    sends: int = 0
    """Calls of `send_all`: at most two for one frame."""
    cut_at: int | None = None
    """The connection breaks in the middle of what this call sends (0 is the first)."""
    cut_every: int = 0
    """Each connection breaks at its call of this number; 0: none does."""
    before_send: Callable[[int], None] = lambda send: None
    """Called with the number of each call before it."""
    loses: bool = False
    """A cut also loses what the peer has not read yet."""
    frames: list[FrameType] = attrs.field(factory=list)
    """What was sent, frame by frame."""

    def was_cut(self) -> bool:
        """The chosen message was reached."""
        return self.cut_at is None

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        return _Tap(await self.inner.connect(peer, channel), self)


class _Tap(trio.abc.Stream):
    """One stream of a `Wire`."""

    def __init__(self, inner: trio.abc.Stream, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire
        self._seen = bytearray()
        self._sends = 0

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        wire = self._wire
        wire.before_send(wire.sends)
        self._sends += 1
        if wire.cut_at == wire.sends or self._sends == wire.cut_every:
            wire.cut_at = None
            await self._inner.send_all(bytes(data)[: len(data) // 2])
            if wire.loses:
                wire.net.cut()
            else:
                await self._inner.aclose()
            raise trio.BrokenResourceError
        wire.sends += 1
        self._note(data)
        await self._inner.send_all(data)

    def _note(self, data: bytes | bytearray | memoryview) -> None:
        self._seen += data
        while len(self._seen) >= HEADER_BYTES:
            total = HEADER_BYTES + int.from_bytes(self._seen[:4], "little")
            if len(self._seen) < total:
                return
            self._wire.frames.append(FrameType(self._seen[4]))
            del self._seen[:total]

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


@attrs.define(kw_only=True)
class Nodes:
    """Both nodes. `source` and `target` are the directories of the rule that `rule` makes."""

    home: Path
    registry: Given
    capture: ScriptedCapture
    wire: Wire
    role: BackupRole
    nursery: trio.Nursery
    source: Path = attrs.field(init=False)
    target: Path = attrs.field(init=False)
    service: BackupService = attrs.field(init=False)
    ports: dict[Channel, int] = attrs.field(factory=dict)
    said: list[tuple[str, Code | None, str]] = attrs.field(factory=list)
    """The logbooks of both nodes."""
    cache_dir: Path | None = None
    """Where the work node's records wait on disk; None: only in memory."""

    def __attrs_post_init__(self) -> None:
        self.source, self.target = self.home / "source", self.home / "backup" / "data1"
        self.source.mkdir()
        self.target.parent.mkdir()
        self.boot()

    def boot(self) -> None:
        """The backup node starts anew: it knows what lies on its disk."""
        self.service = BackupService(self.role, registry=self.registry, state_dir=self.home / "state", say=self.say)

    async def handle(self, stream: trio.abc.Stream, channel: Channel, peer: str | None) -> None:
        """Serves a stream on the backup node as it is now."""
        await self.service.handle(stream, channel, peer)

    def say(self, rule: str, code: Code | None, line: str) -> None:
        """The logbook."""
        self.said.append((rule, code, line))

    def codes(self) -> list[Code]:
        """Every code that was said."""
        return [code for _, code, _ in self.said if code is not None]

    def rule(self, **changes: object) -> Rule:
        """A rule from `source` to `target`."""
        pair = Pair(source=os.fsencode(self.source), target=os.fsencode(self.target))
        rule = Rule(name="data1", backup="bak", pairs=(pair,), capture=DriverChoice(name="scripted"))
        return attrs.evolve(rule, **changes)  # type: ignore[arg-type]

    async def run(
        self,
        rule: Rule | None = None,
        *,
        once: bool = True,
        epoch: int = 1,
        status: RuleStatus | None = None,
        keep: bool = True,
        compare: bool = False,
    ) -> RuleStatus:
        """Runs a rule; `once` to its end. Without `keep` the work node forgets all afterwards. With `compare` it relies
        on nothing that it knows."""
        rule = rule or self.rule()
        status = status or RuleStatus(name=rule.name)
        peer = Peer("bak", "127.0.0.1", self.ports, None)
        with trio.fail_after(LIMIT_S):
            await run_rule(
                WorkRule(rule=rule, peer=peer, epoch=epoch, cache_dir=self.cache_dir, compare=compare),
                registry=self.registry,
                transport=self.wire,
                status=status,
                state_dir=self.home / "work" if keep else None,
                once=once,
                say=self.say,
            )
        return status

    @asynccontextmanager
    async def starting(
        self, rule: Rule | None = None, *, epoch: int = 1, compare: bool = False
    ) -> AsyncIterator[RuleStatus]:
        """A rule that runs while the body does; its error ends both."""
        status = RuleStatus(name=(rule or self.rule()).name)

        async def live() -> None:
            await self.run(rule, once=False, epoch=epoch, status=status, compare=compare)

        async with background() as nursery:
            nursery.start_soon(live)
            yield status

    @asynccontextmanager
    async def running(
        self, rule: Rule | None = None, *, epoch: int = 1, compare: bool = False
    ) -> AsyncIterator[RuleStatus]:
        """`starting`, and its mirror is done."""
        async with self.starting(rule, epoch=epoch, compare=compare) as status:
            await until(lambda: status.mirrored)
            yield status


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition holds.

    Raises:
        TooSlowError: it does not come to hold.
    """
    with trio.fail_after(LIMIT_S):
        while not condition():  # noqa: ASYNC110 (a status has no event)
            await trio.sleep(0.005)


@asynccontextmanager
async def open_nodes(home: Path, *specs: DriverSpec, sink: str = "fs") -> AsyncIterator[Nodes]:
    """Both nodes, the backup node listening; drivers of captures, filters, codecs and sinks beside the plain ones."""
    net = MemoryNet()
    context = TransportContext(certificate=None, key=None, peers={}, plaintext=True)
    capture = ScriptedCapture()
    role = BackupRole(allow_roots=(os.fsencode(home / "backup"),), sink=DriverChoice(name=sink), plaintext=True)
    async with (
        net.server_spec().open(NoConfig(), context) as server,
        net.client_spec().open(NoConfig(), context) as client,
        background() as nursery,
    ):
        registry = Given(*i2_sinks(), capture.spec(), *specs)
        nodes = Nodes(home=home, registry=registry, capture=capture, wire=Wire(net, client), role=role, nursery=nursery)
        nodes.ports = await nursery.start(server.serve, "127.0.0.1", dict.fromkeys(Channel, 0), nodes.handle)
        yield nodes
