"""The world of one history: two machines and their disks, a network, applications, and what befalls them.

The nodes run the real code; a node's life ends by a stop or by a death at a step of its own, and a keeper starts it
anew. What the product says to the world (acks, states, refusals) is held against what is on the disks.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio

from i2core.api import (
    Applied,
    Ask,
    Batch,
    Channel,
    Code,
    DriverKind,
    DriverSpec,
    LinkError,
    Peer,
    Place,
    Record,
    Seen,
    Sink,
    SinkContext,
    StopRule,
)
from i2core.config.model import (
    BackupRole,
    Brake,
    DriverChoice,
    MirrorOptions,
    OrphanAction,
    Orphans,
    Pair,
    Rule,
    Verify,
)
from i2core.pipeline.scan import SCAN
from i2core.rule.backup import BackupService
from i2core.rule.spool import Quota
from i2core.rule.status import RuleStatus
from i2core.rule.work import WorkRule, run_rule
from i2core.tasks import leaf
from i2core.testing.sim.application import Application
from i2core.testing.sim.capture import SimCapture, capture_spec
from i2core.testing.sim.clock import EPOCH_S, SimTime
from i2core.testing.sim.databases import Databases
from i2core.testing.sim.disk import Disk, Inode
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Machine, Violation, running
from i2core.testing.sim.net import SimNet, origin
from i2core.testing.sim.oracle import Touched, differences, lost, named, pictures
from i2core.testing.sim.plan import Plan, Step
from i2core.testing.sim.seam import Seam, registry

_SCAN_S = 3.0
MEMORY_BYTES = 48 * 1024
"""The work node's memory limit."""
_BATCH_BYTES = 24 * 1024
"""No batch is larger."""
_REST_S = 400.0
"""A world in which nothing breaks any more comes to rest within this time."""
_PEER = Peer(name="backup", host="backup", ports={Channel.MIRROR: 1, Channel.REPLICATION: 2}, fingerprint=None)


@attrs.define(eq=False)
class Node:
    """A host that is started again whenever its life ends, until the history does."""

    name: str
    disks: list[Disk]
    machine: Machine | None = None
    scope: trio.CancelScope | None = None
    wall_offset_s: float = 0.0
    down_s: float = 0.0
    """How long it stays down when its life ends."""
    loses: bool = False
    """It dies by a power cut."""
    up_now: trio.Event = attrs.field(factory=trio.Event)
    """Set: it need not stay down any longer."""
    boots: int = 1


@attrs.define(eq=False)
class WorkNode(Node):
    """A work node with the rule that it runs."""

    epoch: int = 1
    rule: Rule | None = None
    roots: list[Inode] = attrs.field(factory=list)
    status: RuleStatus | None = None
    memory: Quota = attrs.field(factory=lambda: Quota(MEMORY_BYTES))
    captures: list[SimCapture] = attrs.field(factory=list)
    refused: bool = False
    """Another node owns the replica, and this one was told."""


class World:
    """All of it. `run` plays a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trace: list[str] = []
        self._chances = {name: Random(f"{name} {plan.seed}") for name in _STREAMS}  # noqa: S311 (no secrets)
        self._clock = SimTime(self._chances["clock"])
        self._databases = Databases()
        self._net = SimNet(self._chances["net"])
        self._told = 0
        """The highest durable seq that a work node was told."""
        self._owner = 0
        self._last_seq = 0
        self._applied: list[tuple[int, Record, list[Inode]]] = []
        """What the sink was given and is not known to be durable: seq, record, the files it names."""
        self._service: BackupService | None = None

        self.kernel = Kernel(Disk(1, self._clock_ns), host=bytes(self._databases.home))
        for name in (b"/sim", b"/sim/work1", b"/sim/work2", b"/sim/replica0", b"/sim/replica1", b"/sim/outside"):
            self.kernel.mkdir(name)
        self.kernel.mkdir(b"/sim/outside/within")
        self.backup = Node("backup", [self._disk(20, b"/sim/replica0"), self._disk(21, b"/sim/replica1")])
        self.targets = [b"/sim/replica%d/data" % root for root in range(plan.roots)]
        for target in self.targets:
            self.kernel.mkdir(target)
        self.kernel.mkdir(b"/sim/replica0/state")
        self._outside_changes = self.kernel.root.disk.changes
        self.works = [self._work_node(1)]
        self._applications = [self._application(self.works[0])]
        for disk in self.backup.disks:
            disk.sync()
        self._lay_foreign()

    @property
    def seam(self) -> Seam:
        """What is put beneath the product."""
        chances = self._chances
        return Seam(
            kernel=self.kernel,
            clock=self._clock,
            chance=chances["jitter"],
            threads=chances["threads"],
        )

    @property
    def owner(self) -> WorkNode:
        """The work node that has the right to write."""
        return self.works[-1]

    def close(self) -> None:
        """Frees what the history used."""
        self._databases.close()

    def say(self, line: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self._now():.3f} {line}")

    @staticmethod
    def _now() -> float:
        return trio.current_time() if trio.lowlevel.in_trio_run() else 0.0

    def _clock_ns(self) -> int:
        machine = running.get()
        return int((EPOCH_S + self._now() + (machine.wall_offset_s if machine else 0.0)) * 1e9)

    # ------------------------------------------------------------------------------------------ before it begins

    def _disk(self, device: int, path: bytes) -> Disk:
        disk = Disk(device, self._clock_ns)
        self.kernel.mount(path, disk)
        return disk

    def _work_node(self, epoch: int) -> WorkNode:
        home = b"/sim/work%d" % epoch
        node = WorkNode(f"work{epoch}", [self._disk(9 + epoch, home)], epoch=epoch)
        self.kernel.mkdir(home + b"/outside")
        self.kernel.mkdir(home + b"/cache")
        sources = [home + b"/source%d" % root for root in range(self.plan.roots)]
        for source in sources:
            self.kernel.mkdir(source)
        node.roots = [self.kernel.find(source) for source in sources]
        plan = self.plan
        node.rule = Rule(
            name="sim",
            backup="backup",
            pairs=tuple(Pair(source=s, target=t) for s, t in zip(sources, self.targets, strict=True)),
            capture=DriverChoice(name=plan.capture, options={"interval": _SCAN_S} if plan.capture == "scan" else {}),
            mirror=MirrorOptions(verify=Verify.STRICT if plan.strict else Verify.TIME),
            orphans=Orphans(action=OrphanAction.KEEP if plan.keeps_orphans else OrphanAction.DELETE),
            brake=Brake(share=1.0),
            rescan_s=plan.rescan_s,
        )
        return node

    def _application(self, node: WorkNode) -> Application:
        assert node.rule is not None
        sources = [pair.source for pair in node.rule.pairs]
        home = sources[0].rpartition(b"/")[0]
        application = Application(
            self.kernel, sources, home + b"/outside", self._chances["work"], keeps_times=not self.plan.strict
        )
        for _ in range(self.plan.before):
            self.say(f"before: {application.work()}")
        node.disks[0].sync()
        return application

    def _lay_foreign(self) -> None:
        if self.plan.foreign:
            stranger = Application(
                self.kernel, self.targets, b"/sim/replica0/state", self._chances["foreign"], keeps_times=True
            )
            for _ in range(self.plan.foreign):
                self.say(f"on the replica before: {stranger.work()}")

    # ------------------------------------------------------------------------------------------ playing

    async def run(self) -> None:
        """Plays the plan.

        Raises:
            Violation: the product broke a promise.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, self.backup, self._serve)
            if self.plan.work_first_s:
                await trio.sleep(self.plan.work_first_s)
            nursery.start_soon(self._keep, self.works[0], partial(self._replicate, self.works[0]))
            for step in self.plan.steps:
                await trio.sleep_until(step.at_s)
                await self._do(step, nursery)
            await self._heal()
            await self._rest()
            self._compare("at rest")
            self._cut_power(self.backup)
            self._compare("behind a last power cut")
            nursery.cancel_scope.cancel()

    async def _do(self, step: Step, nursery: trio.Nursery) -> None:
        what, _, who = step.what.partition(" ")
        self.say(f"! {step.what} {step.steps} {step.lasts_s:.2f}")
        if what == "work":
            for _ in range(step.steps):
                for node, application in zip(self.works, self._applications, strict=True):
                    self.say(f"{node.name}: {application.work()}")
                if self._chances["work"].random() < 0.3:
                    await trio.sleep(self._chances["work"].choice((0.0, 0.002, 0.05, 0.4)))
        elif what in ("kill", "power", "stop"):
            self._end(self.backup if who == "backup" else self.owner, step, what)
        elif what == "takeover" and len(self.works) == 1:
            node = self._work_node(2)
            self.works.append(node)
            self._applications.append(self._application(node))
            nursery.start_soon(self._keep, node, partial(self._replicate, node))
        elif what == "clock":
            chosen = self._chances["clock"].choice([self.backup, self.owner])
            chosen.wall_offset_s += step.lasts_s
            if chosen.machine is not None:
                chosen.machine.wall_offset_s = chosen.wall_offset_s
        elif what == "overflow":
            for capture in self.owner.captures:
                capture.overflow("overflow")
        elif what == "fill":
            for disk in self.backup.disks:
                disk.capacity_bytes = disk.used_bytes + step.steps * 40
            nursery.start_soon(self._later, step.lasts_s, self._make_room)
        else:
            self._disturb(step, nursery)

    def _end(self, node: Node, step: Step, how: str) -> None:
        """The node's life ends: in peace, or some steps from now."""
        node.down_s = step.lasts_s
        node.loses = how == "power"
        if node.machine is None or node.scope is None:
            return
        if how == "stop":
            node.scope.cancel()
        else:
            node.machine.dies_at = node.machine.steps + step.steps

    def _disturb(self, step: Step, nursery: trio.Nursery) -> None:
        """What befalls the network."""
        net, chance = self._net, self._chances["net"]
        if step.what == "refuse":
            net.up = False
            nursery.start_soon(self._later, step.lasts_s, self._connectable)
        if step.what in ("cut", "refuse"):
            net.cut()
            return
        for connection in net.connections:
            if step.what == "half-open":
                connection.stall(there=chance.random() < 0.5, back=chance.random() < 0.5)
            elif step.what == "lose an end":
                connection.stall()
                chance.choice(connection.ends).break_()
            elif step.what == "stall":
                connection.stall()
                nursery.start_soon(self._later, step.lasts_s, connection.resume)

    @staticmethod
    async def _later(seconds: float, what: Any) -> None:
        await trio.sleep(seconds)
        what()

    def _connectable(self) -> None:
        self._net.up = True

    def _make_room(self) -> None:
        for disk in self.backup.disks:
            disk.capacity_bytes = None

    # ------------------------------------------------------------------------------------------ lives

    async def _keep(self, node: Node, live: Any) -> None:
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live, node, live)
            if isinstance(node, WorkNode) and node.refused:
                return
            self.say(f"{node.name} is down")
            with trio.move_on_after(node.down_s):
                await node.up_now.wait()

    async def _live(self, node: Node, live: Any) -> None:
        machine = node.machine = Machine(node.name, boot=node.boots, wall_offset_s=node.wall_offset_s)
        machine.epoch = node.epoch if isinstance(node, WorkNode) else 0
        machine.realms = self._realms(node)
        machine.on_death = partial(self._died, node)
        running.set(machine)
        self.say(f"{node.name} is up")
        with trio.CancelScope() as node.scope:
            try:
                await live(machine)
            except BaseException as error:
                if not machine.dead:
                    raise
                # Whatever a dead machine's code comes to is nobody's concern; but what the world found out is.
                self._reraise(error)
        if not machine.dead:
            self._ended(node, machine)
        node.machine = node.scope = None

    @staticmethod
    def _reraise(error: BaseException) -> None:
        found = leaf(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, Violation):
            raise found
        if isinstance(found, trio.Cancelled):
            raise found

    def _realms(self, node: Node) -> list[Inode]:
        if isinstance(node, WorkNode):
            return [self.kernel.find(b"/sim/%s/cache" % node.name.encode())]
        return [self.kernel.find(path) for path in (*self.targets, b"/sim/replica0/state")]

    def _died(self, node: Node) -> None:
        assert node.machine is not None and node.scope is not None
        how = "power cut" if node.loses else "killed"
        self.say(f"{node.name} dies at step {node.machine.steps}: {how}")
        self._net.died(node.machine, silently=node.loses)
        self.kernel.forget(node.machine)
        if isinstance(node, WorkNode):
            self._hear(node)
            if node.loses:
                self.say(f"catalog: {self._databases.power_cut(node.name, self._chances['disk'])}")
            else:
                self._databases.killed(node.name)
        if node.loses:
            node.boots += 1
            self._cut_power(node)
        node.scope.cancel()

    def _ended(self, node: Node, machine: Machine) -> None:
        """In peace."""
        self._net.closed(machine)
        if isinstance(node, WorkNode):
            self._hear(node)
        gc.collect()  # what abandoned generators hold is as good as closed
        held = self.kernel.open_count(machine)
        # A backup node keeps one for each rule that it receives, for its whole life.
        if held > (0 if isinstance(node, WorkNode) else 1):
            raise Violation(f"{node.name} has left {held} descriptors open")
        self.kernel.forget(machine)

    async def _serve(self, machine: Machine) -> None:
        role = BackupRole(listen="backup", plaintext=True, allow_roots=tuple(self.targets))
        drivers = _Drivers(self, None)
        self._service = service = BackupService(
            role, registry=drivers, state_dir=Path("/sim/replica0/state"), say=partial(self._line, "backup")
        )
        await trio.sleep(self._chances["net"].choice((0.0, 0.3)))
        async with trio.open_nursery() as nursery:
            self._net.listen(machine, service.handle, nursery)
            await trio.sleep_forever()

    async def _replicate(self, node: WorkNode, machine: Machine) -> None:
        assert node.rule is not None
        while True:
            node.status = RuleStatus(name="sim")
            node.memory = Quota(MEMORY_BYTES)
            try:
                await run_rule(
                    WorkRule(
                        rule=node.rule,
                        peer=_PEER,
                        epoch=node.epoch,
                        memory=node.memory,
                        disk=Quota(self.plan.spool_bytes),
                        cache_dir=Path("/sim") / node.name / "cache" if self.plan.spool_bytes else None,
                    ),
                    registry=_Drivers(self, node),
                    transport=self._net.client(),
                    status=node.status,
                    state_dir=self._databases.directory(node.name),
                    once=False,
                    say=partial(self._line, node.name),
                )
            except StopRule as stop:
                self._hear(node)
                self.say(f"{node.name} stops: {stop}")
                if stop.code is Code.LOCKED and node.epoch < self.owner.epoch:
                    node.refused = True
                    return
                if stop.code is not Code.REPLICA_FULL:
                    raise Violation(f"{node.name} stops: {stop}") from stop
                await trio.sleep(2.0)  # somebody looks after it
            except LinkError as error:
                raise Violation(f"{node.name} gives up: {error}") from error

    def _line(self, who: str, rule: str, code: Code | None, line: str) -> None:
        self.say(f"{who}: {line} [{'-' if code is None else code.value}]")

    # ------------------------------------------------------------------------------------------ rest

    async def _heal(self) -> None:
        self.say("nothing breaks any more")
        self._connectable()
        self._make_room()
        for connection in self._net.connections:
            connection.resume()
        for node in (self.backup, *self.works):
            node.up_now.set()
            if node.machine is not None:
                node.machine.dies_at = 0

    async def _rest(self) -> None:
        with trio.move_on_after(_REST_S):
            if self.plan.capture == "scan":
                await trio.sleep(2 * _SCAN_S)
            await self._until(self._is_told)
            since = self._clock.monotonic_ns()
            await self._until(lambda: self.owner.status is not None and self.owner.status.settled_ns > since)
            self._hear(self.owner)
            await self._until(lambda: all(node.refused for node in self.works[:-1]))
            self.say("at rest")
            return
        status = self.owner.status
        raise Violation(f"it does not come to rest: {status and status.as_json()}")

    @staticmethod
    async def _until(true: Callable[[], bool]) -> None:
        while not true():  # noqa: ASYNC110 (the product has no event for it, and this clock costs nothing)
            await trio.sleep(0.5)

    def _is_told(self) -> bool:
        """True when the owner's capture is open and has told all."""
        captures = self.owner.captures
        return self.plan.capture == "scan" or (bool(captures) and all(capture.is_idle for capture in captures))

    def _compare(self, when: str) -> None:
        found = []
        for root, (source, target) in enumerate(zip(self.owner.roots, self.targets, strict=True)):
            lines = differences(source, self.kernel.find(target), extra_allowed=self.plan.keeps_orphans)
            found += [f"root {root}: {line}" for line in lines]
        if found:
            raise Violation(f"{when} the replica differs: " + "; ".join(found))
        if self.kernel.root.disk.changes != self._outside_changes:
            raise Violation("something was written outside of the replica")

    # ------------------------------------------------------------------------------------------ promises

    def _hear(self, node: WorkNode) -> None:
        """Takes note of what the work node was told."""
        if node.memory.used > MEMORY_BYTES + _BATCH_BYTES:
            raise Violation(f"{node.name} holds {node.memory.used} bytes in memory")
        if node.status is not None:
            self._told = max(self._told, node.status.durable_seq)
        self._applied = [entry for entry in self._applied if entry[0] > self._told]

    def _cut_power(self, node: Node) -> None:
        if isinstance(node, WorkNode):
            for disk in node.disks:
                if not self.plan.strict:
                    # Content that is spoiled under its old size and time is what only a strict compare sees.
                    disk.sync_content()
                disk.power_cut(self._chances["disk"])
            return
        for work in self.works:
            self._hear(work)
        targets = [self.kernel.find(target) for target in self.targets]
        before = [pictures(target) for target in targets]
        for disk in node.disks:
            disk.power_cut(self._chances["disk"])
        found = []
        for root, (target, was) in enumerate(zip(targets, before, strict=True)):
            touched = Touched()
            for _, record, files in self._applied:
                if record.root == root:
                    touched.add(record, files)
            found += [f"root {root}: {line}" for line in lost(was, pictures(target), touched)]
        if found:
            raise Violation(f"told durable up to {self._told}: " + "; ".join(found))

    def entered(self) -> None:
        """A session begins on the backup node: its position must not lie behind what was told, nor its epoch."""
        assert self._service is not None
        client = origin.get()
        assert client is not None
        for work in self.works:
            self._hear(work)
        for known in self._service.statuses():
            if known.durable_seq < self._told:
                raise Violation(f"durable up to {self._told} was told, and {known.durable_seq} was kept")
        if client.epoch < self._owner:
            raise Violation(f"{client.name} with epoch {client.epoch} was let in, {self._owner} is the owner's")
        self._owner = client.epoch

    def applies(self, batch: Batch) -> None:
        """The sink is about to apply records."""
        client = origin.get()
        assert client is not None
        if client.epoch < self._owner:
            raise Violation(f"{client.name} with epoch {client.epoch} writes, {self._owner} is the owner's")
        for seq, record in enumerate(batch.records, batch.first_seq):
            # Orphans are removed without a seq: they count as part of what comes next.
            number = seq if batch.first_seq > self._last_seq else self._last_seq + 1
            self._applied.append((number, record, list(self._files(record))))
        self._last_seq = max(self._last_seq, batch.last_seq)

    def applied(self, batch: Batch) -> None:
        """It has."""
        self._applied += [(self._last_seq, record, list(self._files(record))) for record in batch.records]

    def _files(self, record: Record) -> list[Inode]:
        found = []
        for path in named(record):
            try:
                found.append(self.kernel.find(self.targets[record.root] + b"/" + path, follow=False))
            except OSError:
                continue
        return [inode for inode in found if not inode.is_dir]


_STREAMS = ("clock", "net", "disk", "work", "foreign", "jitter", "threads", "capture")


class _Drivers:
    """The installed drivers, with the simulated capture, and with the sink watched."""

    def __init__(self, world: World, node: WorkNode | None) -> None:
        self._world = world
        self._node = node

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The driver of that name."""
        if kind is DriverKind.SINK:
            real = registry().driver(kind, name)
            return attrs.evolve(real, open=partial(self._open_sink, real))
        if kind is DriverKind.CAPTURE:
            if name == "scan":
                return SCAN
            assert self._node is not None
            world, node = self._world, self._node
            return capture_spec(node.captures, world.kernel, world._chances["capture"])
        return registry().driver(kind, name)

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All of a kind."""
        return registry().drivers(kind)

    @asynccontextmanager
    async def _open_sink(self, real: DriverSpec, config: Any, context: SinkContext) -> AsyncIterator[Sink]:
        async with real.open(config, context) as sink:
            self._world.entered()
            yield _WatchedSink(sink, self._world)


class _WatchedSink(Sink):
    """The real sink, and a world that knows what it is given."""

    def __init__(self, inner: Sink, world: World) -> None:
        self._inner = inner
        self._world = world
        self.owns = inner.owns

    async def apply(self, batch: Batch) -> Applied:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._world.applies(batch)
        applied = await self._inner.apply(batch)
        self._world.applied(batch)
        return applied

    async def flush(self) -> None:
        await self._inner.flush()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        return await self._inner.look(asks)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        return await self._inner.tidy(place, staged)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        return await self._inner.hashes(place, first, count, staged=staged)

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return await self._inner.hashes_of(places, most)

    async def count(self, place: Place, limit: int) -> int:
        return await self._inner.count(place, limit)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await self._inner.set_aside(place, destination)
