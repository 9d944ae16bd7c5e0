"""The world of one history: two machines and their disks, a network, applications, and what befalls them.

The nodes run the real code; a node's life ends by a stop or by a death at a step of its own, and a keeper starts it
anew. What the product says to the world (acks, states, refusals) is held against what is on the disks.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from random import Random

import trio

from i2core.api import Batch, Channel, Code, LinkError, Peer, StopRule
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
from i2core.rule.backup.service import BackupService
from i2core.rule.outgoing.spool import Quota
from i2core.rule.work.runner import WorkRule, run_rule
from i2core.tasks import leaf
from i2core.testing.sim.application import Application
from i2core.testing.sim.clock import EPOCH_S, SimTime
from i2core.testing.sim.databases import Databases
from i2core.testing.sim.disk import Disk, Inode
from i2core.testing.sim.drivers import Watch, backup_drivers, work_drivers
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import Machine, Violation, running
from i2core.testing.sim.net import SimNet, origin
from i2core.testing.sim.nodes import MEMORY_BYTES, HeardStatus, Node, WorkNode
from i2core.testing.sim.oracle import differences, only_linked_differ
from i2core.testing.sim.plan import Plan, Step
from i2core.testing.sim.promises import Promises
from i2core.testing.sim.seam import Seam

_STREAMS = ("clock", "net", "disk", "work", "foreign", "jitter", "threads", "capture", "sink")
_SCAN_S = 3.0
_BATCH_BYTES = 24 * 1024
"""No batch is larger."""
_REST_S = 400.0
"""A world in which nothing breaks any more comes to rest within this time."""
_PEER = Peer(name="backup", host="backup", ports={Channel.MIRROR: 1, Channel.REPLICATION: 2}, fingerprint=None)
_STATE = b"/sim/replica0/state"
_ASIDE = b"/sim/replica0/aside"

Life = Callable[[Machine], Awaitable[None]]


class World:
    """All of it. `run` plays a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trace: list[str] = []
        self.violation = ""
        """The first promise that was broken where nobody could be told."""
        self._chances = {name: Random(f"{name} {plan.seed}") for name in _STREAMS}  # noqa: S311 (no secrets)
        self._clock = SimTime(self._chances["clock"])
        self._databases = Databases()
        self._net = SimNet(self._chances["net"], named=plan.named)
        self._service: BackupService | None = None
        self._watch = Watch(enters=self._enters, applies=self._applies, applied=self._applied, cut=self._net.cut)
        self._tampered = False

        self.kernel = Kernel(Disk(1, self._clock_ns), host=bytes(self._databases.home))
        for name in (b"/sim", b"/sim/work1", b"/sim/work2", b"/sim/replica0", b"/sim/replica1", b"/sim/outside"):
            self.kernel.mkdir(name)
        self.kernel.mkdir(b"/sim/outside/within")
        self.backup = Node("backup", [self._disk(20, b"/sim/replica0"), self._disk(21, b"/sim/replica1")])
        self.targets = [b"/sim/replica%d/data" % root for root in range(plan.roots)]
        for path in (*self.targets, _STATE, _ASIDE):
            self.kernel.mkdir(path)
        self._outside_changes = self.kernel.root.disk.changes
        self._promises = Promises(self.kernel, self.targets)
        self.works = [self._work_node(1)]
        self._applications = [self._application(self.works[0])]
        self._stranger = Application(self.kernel, self.targets, _ASIDE, self._chances["foreign"], keeps_times=True)
        self._meddle(plan.foreign)

    @property
    def seam(self) -> Seam:
        """What is put beneath the product."""
        return Seam(
            kernel=self.kernel,
            clock=self._clock,
            chance=self._chances["jitter"],
            threads=self._chances["threads"],
            slowness=self.plan.slowness,
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
        plan, home = self.plan, b"/sim/work%d" % epoch
        node = WorkNode(f"work{epoch}", [self._disk(9 + epoch, home)], epoch=epoch)
        sources = [home + b"/source%d" % root for root in range(plan.roots)]
        for path in (home + b"/outside", home + b"/cache", *sources):
            self.kernel.mkdir(path)
        node.roots = [self.kernel.find(source) for source in sources]
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
        outside = b"/sim/%s/outside" % node.name.encode()
        application = Application(
            self.kernel, sources, outside, self._chances["work"], keeps_times=not self.plan.strict
        )
        for _ in range(self.plan.before):
            self.say(f"before: {application.work()}")
        node.disks[0].sync()
        return application

    def _meddle(self, count: int) -> None:
        """Somebody else works on the replica."""
        for _ in range(count):
            self.say(f"on the replica: {self._stranger.work()}")
        self._keep_meddled()

    def _lay_trap(self) -> None:
        """Somebody else leads the way out of the replica."""
        self.say(f"on the replica: {self._stranger.lay_trap()}")
        self._keep_meddled()

    def _keep_meddled(self) -> None:
        """What others do is not the product's to make durable."""
        for disk in self.backup.disks:
            disk.sync()

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
            self._heal()
            await self._rest()
            self._compare("at rest")
            await self._settle()  # a scan may have begun
            self._cut_power(self.backup)
            self._compare("behind a last power cut")
            nursery.cancel_scope.cancel()

    async def _do(self, step: Step, nursery: trio.Nursery) -> None:
        what, _, who = step.what.partition(" ")
        self.say(f"! {step.what} {step.steps} {step.lasts_s:.2f}")
        if what == "work":
            await self._work(step.steps)
        elif what in ("kill", "power", "stop"):
            self._end(self.backup if who == "backup" else self.owner, step, what)
        elif what == "takeover":
            self._take_over(step, nursery)
        elif what == "clock":
            self._turn_clock(step.lasts_s)
        elif what == "overflow":
            for capture in self.owner.captures:
                capture.overflow("overflow")
        elif what == "tamper":
            # A change of others may come to size and time of what was sent: only a strict compare is sure to see it.
            if self.plan.strict:
                self._tampered = True
                self._meddle(1 + step.steps % 3)
        elif what == "trap":
            self._tampered = True
            self._lay_trap()
            await self._work(2 + step.steps % 5)
        elif what == "fail":
            self._watch.fails, self._watch.unheard = 1 + step.steps % 5, who == "unheard"
        elif what == "fill":
            for disk in self.backup.disks:
                disk.capacity_bytes = disk.used_bytes + step.steps * 40
            nursery.start_soon(_later, step.lasts_s, self._make_room)
        else:
            self._disturb(step, nursery)

    async def _work(self, count: int) -> None:
        chance = self._chances["work"]
        for _ in range(count):
            for node, application in zip(self.works, self._applications, strict=True):
                self.say(f"{node.name}: {application.work()}")
            if chance.random() < 0.3:
                await trio.sleep(chance.choice((0.0, 0.002, 0.05, 0.4)))

    def _end(self, node: Node, step: Step, how: str) -> None:
        """The node's life ends: in peace, or some steps from now."""
        node.down_s = step.lasts_s
        node.loses = how == "power"
        if node.machine is None or node.scope is None:
            return
        if how == "stop":
            node.scope.cancel()
        else:
            node.machine.left, node.machine.dies_on = step.steps, step.on

    def _take_over(self, step: Step, nursery: trio.Nursery) -> None:
        """Another work node owns the replica from now on; perhaps the one before cannot hear of it for a while."""
        if len(self.works) > 1:
            return
        before, node = self.works[0], self._work_node(2)
        if step.steps % 2:
            self._net.cut_off.add(before.name)
            for connection in self._net.connections:
                connection.stall()
            nursery.start_soon(_later, step.lasts_s, self._net.cut_off.clear)
        self.works.append(node)
        self._applications.append(self._application(node))
        nursery.start_soon(self._keep, node, partial(self._replicate, node))

    def _turn_clock(self, by_s: float) -> None:
        node = self._chances["clock"].choice([self.backup, self.owner])
        node.wall_offset_s += by_s
        if node.machine is not None:
            node.machine.wall_offset_s = node.wall_offset_s

    def _disturb(self, step: Step, nursery: trio.Nursery) -> None:
        """What befalls the network."""
        net, chance = self._net, self._chances["net"]
        if step.what == "refuse":
            net.up = False
            nursery.start_soon(_later, step.lasts_s, self._connectable)
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
                nursery.start_soon(_later, step.lasts_s, connection.resume)

    def _connectable(self) -> None:
        self._net.up = True

    def _make_room(self) -> None:
        for disk in self.backup.disks:
            disk.capacity_bytes = None

    # ------------------------------------------------------------------------------------------ lives

    async def _keep(self, node: Node, life: Life) -> None:
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live, node, life)
            if isinstance(node, WorkNode) and node.refused:
                return
            self.say(f"{node.name} is down")
            with trio.move_on_after(node.down_s):
                await node.up_now.wait()

    async def _live(self, node: Node, life: Life) -> None:
        machine = node.machine = Machine(node.name, boot=node.boots, wall_offset_s=node.wall_offset_s)
        machine.realms = self._realms(node)
        machine.on_death = partial(self._died, node)
        if isinstance(node, WorkNode):
            machine.epoch = node.epoch
            if node.forgets:
                self._databases.forget(node.name)
                node.forgets = False
        self._net.rebooted(node.name)
        running.set(machine)
        self.say(f"{node.name} is up")
        with trio.CancelScope() as node.scope:
            try:
                await life(machine)
            except BaseException as error:
                # Whatever a dead machine's code comes to is nobody's concern; but what the world found out is.
                if not machine.dead or _concerns_the_world(error):
                    raise
        if not machine.dead:
            self._ended(node, machine)
        node.machine = node.scope = None

    def _realms(self, node: Node) -> list[Inode]:
        if isinstance(node, WorkNode):
            return [self.kernel.find(b"/sim/%s/cache" % node.name.encode())]
        return [self.kernel.find(path) for path in (*self.targets, _STATE)]

    def _died(self, node: Node) -> None:
        """At this very moment, in the middle of whatever it was doing."""
        assert node.machine is not None and node.scope is not None
        self.say(f"{node.name} {'loses its power' if node.loses else 'is killed'}")
        node.scope.cancel()
        self._net.died(node.machine, silently=node.loses)
        self.kernel.forget(node.machine)
        try:
            if isinstance(node, WorkNode):
                self._hear(node)
                if node.loses:
                    self.say(f"its catalog: {self._databases.power_cut(node.name, self._chances['disk'])}")
                else:
                    self._databases.killed(node.name)
            if node.loses:
                node.boots += 1
                self._cut_power(node)
        except Violation as violation:
            # It may be trio itself that asks, which would make a crash of this.
            self.violation = self.violation or str(violation)

    def _ended(self, node: Node, machine: Machine) -> None:
        """In peace."""
        self._net.closed(machine)
        if isinstance(node, WorkNode):
            self._hear(node)
        gc.collect()  # what abandoned generators hold is as good as closed
        held = self.kernel.open_count(machine)
        # A backup node keeps one for each rule that it receives, for its whole life.
        if held > (0 if isinstance(node, WorkNode) else len(self.works)):
            raise Violation(f"{node.name} has left {held} descriptors open")
        self.kernel.forget(machine)

    async def _serve(self, machine: Machine) -> None:
        role = BackupRole(listen="backup", plaintext=True, allow_roots=tuple(self.targets))
        self._service = service = BackupService(
            role,
            registry=backup_drivers(self._watch, self._chances["sink"]),
            state_dir=Path(_STATE.decode()),
            say=partial(self._line, "backup"),
        )
        await trio.sleep(self._chances["net"].choice((0.0, 0.3)))
        async with trio.open_nursery() as nursery:
            self._net.listen(machine, service.handle, nursery)
            try:
                await trio.sleep_forever()
            finally:
                self._net.closed(machine)

    async def _replicate(self, node: WorkNode, machine: Machine) -> None:
        assert node.rule is not None
        while True:
            node.status = HeardStatus("sim", self._promised)
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
                    registry=work_drivers(self.kernel, node.captures, self._chances["capture"]),
                    transport=self._net.client(),
                    status=node.status,
                    state_dir=self._databases.directory(node.name),
                    once=False,
                    say=partial(self._line, node.name),
                )
            except StopRule as stop:
                self._hear(node)
                self.say(f"{node.name} stops: {stop}")
                node.refused = stop.code is Code.LOCKED and node.epoch < self.owner.epoch
                if not node.refused and stop.code is not Code.REPLICA_FULL:
                    raise Violation(f"{node.name} stops: {stop}") from stop
            except LinkError as error:
                raise Violation(f"{node.name} gives up: {error}") from error
            if node.refused:
                return
            await trio.sleep(2.0)  # somebody looks after it

    def _line(self, who: str, rule: str, code: Code | None, line: str) -> None:
        self.say(f"{who}: {line} [{'-' if code is None else code.value}]")

    # ------------------------------------------------------------------------------------------ rest

    def _heal(self) -> None:
        self.say("nothing breaks any more")
        self._connectable()
        self._net.cut_off.clear()
        self._make_room()
        self._watch.fails = 0
        for connection in self._net.connections:
            connection.resume()
        for node in (self.backup, *self.works):
            node.up_now.set()
            if node.machine is not None:
                node.machine.left = 0

    async def _rest(self) -> None:
        with trio.move_on_after(_REST_S):
            await self._settle()
            if self._tampered:
                # What others did to the replica only a mirror sees.
                owner = self.owner
                owner.forgets = True
                if owner.scope is not None:
                    owner.scope.cancel()
                await _until(lambda: not owner.forgets)
                await self._settle()
            if self._only_linked_differ():
                self.say("a scan")
                for capture in self.owner.captures:
                    capture.overflow("a scan")
                await self._settle()
            await _until(lambda: all(node.refused for node in self.works[:-1]))
            self.say("at rest")
            return
        status = self.owner.status
        raise Violation(f"it does not come to rest: {status and status.as_json()}")

    async def _settle(self) -> None:
        """Until the owner says that all that happened before is durable on the replica."""
        if self.plan.capture == "scan":
            await trio.sleep(2 * _SCAN_S)
        await _until(self._is_told)
        since = self._clock.monotonic_ns()
        await _until(lambda: self.owner.status is not None and self.owner.status.settled_ns > since)
        self._hear(self.owner)

    def _is_told(self) -> bool:
        """True when the owner's capture is open and has told all."""
        captures = self.owner.captures
        return self.plan.capture == "scan" or (bool(captures) and all(capture.is_idle for capture in captures))

    def _only_linked_differ(self) -> bool:
        pairs = list(zip(self.owner.roots, map(self.kernel.find, self.targets), strict=True))
        extra = self.plan.keeps_orphans
        differ = any(differences(*pair, extra_allowed=extra) for pair in pairs)
        return differ and all(only_linked_differ(*pair, extra_allowed=extra) for pair in pairs)

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

    def _peer(self, node: str) -> str:
        """The name by which the backup node knows it."""
        return node if self.plan.named else "local"

    def _hear(self, node: WorkNode) -> None:
        """Takes note of what the work node was told."""
        if node.memory.used > MEMORY_BYTES + _BATCH_BYTES:
            raise Violation(f"{node.name} holds {node.memory.used} bytes in memory")
        if node.status is not None:
            self._promises.told(self._peer(node.name), node.status.durable_seq)

    def _cut_power(self, node: Node) -> None:
        chance = self._chances["disk"]
        if isinstance(node, WorkNode):
            for disk in node.disks:
                if not self.plan.strict:
                    # Content that is spoiled under its old size and time is what only a strict compare sees.
                    disk.sync_content()
                disk.power_cut(chance)
            return
        for work in self.works:
            self._hear(work)
        before = self._promises.look()
        for disk in node.disks:
            disk.power_cut(chance)
        self._promises.check(before)

    def _promised(self) -> None:
        if self.backup.machine is not None:
            self.backup.machine.promised()

    def _enters(self) -> None:
        assert self._service is not None
        for work in self.works:
            self._hear(work)
        self._promises.enters(self._service.statuses())

    def _applies(self, batch: Batch) -> None:
        client = _client()
        self._promises.applies(client, self._peer(client.name), batch)

    def _applied(self, batch: Batch) -> None:
        self._promises.applied(self._peer(_client().name), batch)


def _client() -> Machine:
    client = origin.get()
    assert client is not None
    return client


def _concerns_the_world(error: BaseException) -> bool:
    found = leaf(error) if isinstance(error, BaseExceptionGroup) else error
    return isinstance(found, (Violation, trio.Cancelled))


async def _later(seconds: float, what: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    what()


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (the product has no event for it, and this clock costs nothing)
        await trio.sleep(0.5)
