"""The lives of the nodes: each runs the real code until it is stopped, or dies at one of its steps; then it is started
again.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from i2core.api import Channel, Code, LinkError, Peer, StopRule
from i2core.config.model import BackupRole
from i2core.rule.outgoing.spool import Quota
from i2core.rule.work.runner import run_rule
from i2core.rule.work.work_rule import WorkRule
from i2core.tasks import leaf
from i2core.testing.sim.drivers import backup_drivers, work_drivers
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.machine import Killed, Machine, Violation, running
from i2core.testing.sim.nodes import MEMORY_BYTES, Node, WatchedStatus, WorkNode
from i2core.testing.sim.oracle import STORE
from i2core.testing.sim.service import SimService
from i2core.testing.sim.witness import Witness
from i2core.testing.sim.world import CDP, STATE, World

_PEER = Peer(name="backup", host="backup", ports={Channel.MIRROR: 1, Channel.REPLICATION: 2}, fingerprint=None)

Life = Callable[[Machine], Awaitable[None]]


class Lives:
    """The lives of all nodes of a world."""

    def __init__(self, world: World, witness: Witness) -> None:
        self._world = world
        self._witness = witness

    async def backup(self) -> None:
        """Runs the backup node, and starts it again after each life, until cancelled."""
        await self._keep(self._world.backup, self._serve)

    async def work(self, node: WorkNode) -> None:
        """Runs a work node, life after life, until it learns that another one owns the replica."""
        await self._keep(node, partial(self._replicate, node))

    async def _keep(self, node: Node, life: Life) -> None:
        while True:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._live, node, life)
            if isinstance(node, WorkNode) and node.refused:
                return
            self._world.say(f"{node.name} is down")
            happens, node.meanwhile = node.meanwhile, []
            for what in happens:
                what()
            with trio.move_on_after(node.down_s):
                await node.up_now.wait()

    async def _live(self, node: Node, life: Life) -> None:
        machine = node.machine = Machine(node.name, boot=node.boots, wall_offset_s=node.wall_offset_s)
        machine.realms = self._realms(node)
        machine.stores = self._stores(node)
        machine.on_death = partial(self._died, node)
        if isinstance(node, WorkNode):
            if node.forgets:
                self._world.databases.forget(node.name)
                node.forgets = False
                node.states += 1
            if self._world.databases.sqlite.statements_left:
                node.states += 1  # it may find damage before it has read what the life before has noted
            machine.epoch, machine.state = node.epoch, node.states
        self._world.net.rebooted(node.name)
        running.set(machine)
        self._world.say(f"{node.name} is up")
        with trio.CancelScope() as node.scope:
            try:
                await life(machine)
            except BaseException as error:
                # Errors of a dead machine's code do not matter, but violations that the world has found do.
                if not machine.dead or _concerns_the_world(error):
                    raise
        if not machine.dead:
            self._ended(node, machine)
        node.machine = node.scope = None

    def _realms(self, node: Node) -> list[Inode]:
        if isinstance(node, WorkNode):
            return [self._world.kernel.find(b"/sim/%s/cache" % node.name.encode())]
        own = [STATE, CDP] if self._world.plan.keeps_history else [STATE]
        kept = [each for at in self._stores(node) for name, each in at.entries.items() if name.startswith(STORE)]
        return [*self._world.replicas.realms(), *map(self._world.kernel.find, own), *kept]

    def _stores(self, node: Node) -> list[Inode]:
        """Where the node may make a directory for what is gone from a replica, beside the replica."""
        plan = self._world.plan
        if isinstance(node, WorkNode) or not (plan.keeps_history and plan.allows_above):
            return []
        return [disk.root for disk in node.disks[: plan.roots]]

    def _died(self, node: Node) -> None:
        """The node dies now, in the middle of its work."""
        assert node.machine is not None and node.scope is not None
        self._world.say(f"{node.name} {'loses its power' if node.loses else 'is killed'}")
        node.scope.cancel()
        self._world.net.died(node.machine, silently=node.loses)
        self._world.kernel.forget(node.machine)
        try:
            if isinstance(node, WorkNode):
                self._witness.hear(node)
                if node.loses:
                    node.states += 1
                    fate = self._world.databases.power_cut(node.name, self._world.chances["disk"])
                    self._world.say(f"its catalog: {fate}")
                else:
                    self._world.databases.killed(node.name)
            elif node.loses:
                fate = self._world.databases.power_cut(node.name, self._world.chances["memory"])
                self._world.say(f"what its sink remembers: {fate}")
                self._world.databases.cut_indexes(node.name, self._world.chances["history"])
            else:
                self._world.databases.killed(node.name)
            if node.loses:
                node.boots += 1
                self._witness.cut_power(node)
        except Violation as violation:
            # trio itself may be the caller, which would turn this into a crash.
            self._world.violation = self._world.violation or str(violation)

    def _ended(self, node: Node, machine: Machine) -> None:
        """The node came to an orderly end."""
        self._world.net.closed(machine)
        if isinstance(node, WorkNode):
            self._witness.hear(node)
            if node.flips:
                node.flips = False
                self._world.databases.flip(node.name, self._world.chances["disk"])
        gc.collect()  # descriptors of abandoned generators count as closed
        held = self._world.kernel.open_count(machine)
        # A backup node keeps one descriptor for each rule that it receives, for its whole life.
        if held > (0 if isinstance(node, WorkNode) else len(self._world.works)):
            raise Violation(f"{node.name} has left {held} descriptors open")
        self._world.kernel.forget(machine)

    async def _serve(self, machine: Machine) -> None:
        above = self._world.plan.allows_above
        allowed = [os.path.dirname(target) if above else target for target in self._world.targets]
        role = BackupRole(listen="backup", plaintext=True, allow_roots=tuple(allowed))
        self._world.service = service = SimService(
            role,
            registry=backup_drivers(self._witness.watch, self._world.chances["sink"]),
            state_dir=Path(STATE.decode()),
            say=partial(self._line, "backup"),
            keeps_histories=self._world.plan.keeps_history,
        )
        await trio.sleep(self._world.chances["net"].choice((0.0, 0.3)))
        async with trio.open_nursery() as nursery:
            self._world.backup.tasks = nursery
            self._world.net.listen(machine, service.handle, nursery)
            try:
                await trio.sleep_forever()
            finally:
                self._world.backup.tasks = None
                self._world.net.closed(machine)

    async def _replicate(self, node: WorkNode, machine: Machine) -> None:
        assert node.rule is not None
        confirmed = False
        while True:
            node.status = WatchedStatus("sim", self._witness.promised)
            node.memory = Quota(MEMORY_BYTES)
            try:
                await run_rule(
                    WorkRule(
                        rule=node.rule,
                        peer=_PEER,
                        epoch=node.epoch,
                        compare=confirmed,
                        memory=node.memory,
                        disk=Quota(self._world.plan.spool_bytes),
                        cache_dir=Path("/sim") / node.name / "cache" if self._world.plan.spool_bytes else None,
                    ),
                    registry=work_drivers(self._world.kernel, node.captures, self._world.chances["capture"]),
                    transport=self._world.net.client(),
                    status=node.status,
                    state_dir=self._world.databases.directory(node.name),
                    once=False,
                    say=partial(self._line, node.name),
                )
            except StopRule as stop:
                self._witness.hear(node)
                self._world.say(f"{node.name} stops: {stop}")
                # A person has looked: it is the right directory.
                confirmed = stop.code is Code.SOURCE_GONE and node.name in self._world.databases.damaged
                node.refused = stop.code is Code.LOCKED and node.epoch < self._world.owner.epoch
                if stop.code is Code.LOCKED and node is self._world.owner and self._world.plan.named:
                    await self._give_leave(node)
                elif not (node.refused or confirmed or stop.code in self._foreseen()):
                    raise Violation(f"{node.name} stops: {stop}") from stop
            except LinkError as error:
                raise Violation(f"{node.name} gives up: {error}") from error
            if node.refused:
                return
            await trio.sleep(2.0)  # until somebody deals with it

    def _foreseen(self) -> tuple[Code, ...]:
        """The codes with which a rule may stop until a person deals with it."""
        lacking = (Code.REPLICA_GONE, Code.ILLEGAL_PATH) if self._world.replicas.troubled else ()
        unread = (Code.READ_SOURCE, Code.OPEN_SOURCE, Code.READ_ATTRIBUTES, Code.SOURCE_GONE)
        full = (Code.WORK_FULL,) if self._world.fills_work else ()
        if self._world.fills_history:
            full = (*full, Code.CDP_DATA_WRITE, Code.CDP_DESCRIPTION_WRITE, Code.CDP_READ)
        return (Code.REPLICA_FULL, *full, *lacking, *(unread if self._world.stops_unread else ()))

    async def _give_leave(self, node: WorkNode) -> None:
        """An administrator of the backup node permits the work node to take over, if the backup node is up."""
        if self._world.service is None or self._world.backup.machine is None:
            return
        at_work = running.set(self._world.backup.machine)
        try:
            for before in self._world.works[:-1]:
                await self._world.service.hand_over("sim", before.name, node.name, "sim")
        except (Killed, StopRule, LinkError):  # also while the positions cannot be read
            return  # the administrator tries again
        finally:
            running.reset(at_work)

    def _line(self, who: str, rule: str, code: Code | None, line: str) -> None:
        if code in (Code.HISTORY_ENDED, Code.HISTORY_GAP) and not line.startswith("the earlier history"):
            self._witness.history_lacks(line, ended=code is Code.HISTORY_ENDED)
        self._world.say(f"{who}: {line} [{'-' if code is None else code.value}]")


def _concerns_the_world(error: BaseException) -> bool:
    found = leaf(error) if isinstance(error, BaseExceptionGroup) else error
    return isinstance(found, (Violation, trio.Cancelled))
