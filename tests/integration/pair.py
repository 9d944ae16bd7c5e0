"""A work node and a backup node in one process, connected by a network in memory, for tests of whole rules.

Everything between the two directories is the real engine; the network can be cut at any message, and the capture
reports what a test passes to it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from i2_sink_fs.files import FileWriter
from i2_sink_fs.plugin import i2_sinks
from i2_store_cdp.plugin import i2_journals

from i2core.api import (
    Channel,
    ClientTransport,
    Code,
    DriverKind,
    DriverSpec,
    Entry,
    NoConfig,
    Peer,
    Place,
    Record,
    StopRule,
    TransportContext,
    UsageError,
)
from i2core.config.model import BackupRole, DriverChoice, Pair, Rule
from i2core.rule.backup.service import BackupService
from i2core.rule.life.status import RuleStatus
from i2core.rule.work.run_view import RunView
from i2core.rule.work.runner import run_rule
from i2core.rule.work.work_rule import WorkRule
from i2core.tasks import background
from i2core.testing import MemoryNet, ScriptedCapture
from i2core.wire.frame import FrameType

LIMIT_S = 10.0
HEADER_BYTES = 16
TYPE_AT = 4
"""Where a header has the frame's type."""


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
        """All drivers of that kind."""
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
    before_frame: dict[FrameType, Callable[[], None]] = attrs.field(factory=dict)
    """Called once, before the next frame of that type is sent: what it says is fixed already. So what is done before a
    SURVEY happens after the directory was listed, and before the backup node compares it."""
    before_close: list[Callable[[], None]] = attrs.field(factory=list)
    """Called once, before the next connection is closed. A mirror has a connection of its own, which it closes when all
    that it sent is durable."""
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
        if not self._seen and (act := wire.before_frame.pop(FrameType(data[TYPE_AT]), None)) is not None:
            act()
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
            self._wire.frames.append(FrameType(self._seen[TYPE_AT]))
            del self._seen[:total]

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        while self._wire.before_close:
            self._wire.before_close.pop()()
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
    view: RunView = attrs.field(factory=RunView)
    """Sees the run, while there is one."""
    holds_back: Callable[[Place, Entry], bool] = lambda place, entry: False
    """As `Source.holds_back`."""
    cache_dir: Path | None = None
    """Where the work node's records wait on disk; None: only in memory."""

    def __attrs_post_init__(self) -> None:
        self.source, self.target = self.home / "source", self.home / "backup" / "data1"
        self.source.mkdir()
        self.target.parent.mkdir()
        self.boot()

    def boot(self) -> None:
        """The backup node is started again: it knows only what is on its disk."""
        self.service = BackupService(self.role, registry=self.registry, state_dir=self.home / "state", say=self.say)

    async def handle(self, stream: trio.abc.Stream, channel: Channel, peer: str | None) -> None:
        """Serves a stream on the present backup node."""
        await self.service.handle(stream, channel, peer)

    def say(self, rule: str, code: Code | None, line: str) -> None:
        """The logbook."""
        self.said.append((rule, code, line))

    async def stage(self, path: str) -> None:
        """Creates a large file on the source. Its transfer is interrupted just before it is published, and the work
        node forgets it."""

        def full(writer: FileWriter, record: Record) -> None:
            raise StopRule("no room", code=Code.REPLICA_FULL)

        (self.source / path).parent.mkdir(exist_ok=True)
        (self.source / path).write_bytes(os.urandom(5 << 20))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(StopRule, match="no room"):
            patch.setattr(FileWriter, "publish", full)
            await self.run(keep=False)
        assert self.private(), "nothing is staged"

    def private(self) -> list[Path]:
        """The sink's private files in the replica."""
        return list(self.target.rglob(".i2-staging-*"))

    def codes(self) -> list[Code]:
        """Every code that was logged."""
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
        """Runs a rule; with `once` to its end. Without `keep` the work node forgets everything afterwards. With
        `compare` everything is compared."""
        rule = rule or self.rule()
        status = status or RuleStatus(name=rule.name)
        peer = Peer("bak", "127.0.0.1", self.ports, None)
        with trio.fail_after(LIMIT_S):
            await run_rule(
                WorkRule(
                    rule=rule,
                    peer=peer,
                    epoch=epoch,
                    cache_dir=self.cache_dir,
                    compare=compare,
                    view=self.view,
                    holds_back=self.holds_back,
                ),
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
        """A rule that runs during the body; its error ends both."""
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
        """As `starting`, after the mirror is done."""
        async with self.starting(rule, epoch=epoch, compare=compare) as status:
            await until(lambda: status.mirrored)
            yield status


async def until(condition: Callable[[], bool]) -> None:
    """Waits until the condition is true.

    Raises:
        TooSlowError: it does not become true.
    """
    with trio.fail_after(LIMIT_S):
        while not condition():  # noqa: ASYNC110 (a status has no event)
            await trio.sleep(0.005)


@asynccontextmanager
async def open_nodes(home: Path, *specs: DriverSpec, sink: str = "fs") -> AsyncIterator[Nodes]:
    """Both nodes, with the backup node listening; further drivers in addition to the default ones."""
    net = MemoryNet()
    context = TransportContext(certificate=None, key=None, peers={}, plaintext=True)
    capture = ScriptedCapture()
    role = BackupRole(allow_roots=(os.fsencode(home / "backup"),), sink=DriverChoice(name=sink), plaintext=True)
    async with (
        net.server_spec().open(NoConfig(), context) as server,
        net.client_spec().open(NoConfig(), context) as client,
        background() as nursery,
    ):
        registry = Given(*i2_sinks(), *i2_journals(), capture.spec(), *specs)
        nodes = Nodes(home=home, registry=registry, capture=capture, wire=Wire(net, client), role=role, nursery=nursery)
        nodes.ports = await nursery.start(server.serve, "127.0.0.1", dict.fromkeys(Channel, 0), nodes.handle)
        yield nodes
        assert not (nodes.wire.before_frame or nodes.wire.before_close), "what a test waits for has not happened"
