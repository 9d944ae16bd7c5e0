"""The course of a history: nodes start, the plan is played, all accidents end, and at rest the replica is checked."""

from __future__ import annotations

from collections.abc import Callable

import trio

from i2core.rule.backup.session.durability import ROOTS_S
from i2core.testing.sim.accidents import carry_out, heal
from i2core.testing.sim.accidents.scene import Scene
from i2core.testing.sim.lives import Lives
from i2core.testing.sim.machine import Violation
from i2core.testing.sim.oracle import differences, only_linked_differ
from i2core.testing.sim.witness import Witness
from i2core.testing.sim.world import SCAN_S, World

_REST_S = 400.0
"""When nothing breaks any more, the world must come to rest within this time."""
_MOMENTS = 12
"""So many moments of the past are read at the end."""


class Course:
    """The course of one world. `run` plays its plan."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._witness = Witness(world)

    async def run(self) -> None:
        """Plays the plan.

        Raises:
            Violation: the product broke a promise.
        """
        world, lives = self._world, Lives(self._world, self._witness)
        async with trio.open_nursery() as nursery:
            scene = Scene(world, self._witness, lives, nursery)
            nursery.start_soon(lives.backup)
            if world.plan.work_first_s:
                await trio.sleep(world.plan.work_first_s)
            nursery.start_soon(lives.work, world.works[0])
            begun = 0.0
            if world.plan.from_rest:
                await self._settle()
                begun = trio.current_time()
            for step in world.plan.steps:
                await trio.sleep_until(begun + step.at_s)
                await carry_out(scene, step)
            await trio.sleep(world.plan.healed_s)
            heal(scene)
            await self._rest()
            self._compare("at rest")
            await self._settle()  # a scan may have begun meanwhile
            with trio.move_on_after(_REST_S):
                await _until(self._is_durable)
            if world.plan.keeps_history:
                await self._read_the_past()
            self._witness.cut_power(world.backup)
            self._compare("after a last power cut")
            nursery.cancel_scope.cancel()

    async def _read_the_past(self) -> None:
        """Reads moments of the past, before and after a power cut of the backup node."""
        world = self._world
        before = world.service
        if not self._is_recording():
            raise Violation("at rest no history is open")
        self._witness.check_histories(_MOMENTS, "at rest")
        assert world.backup.machine is not None
        world.backup.loses, world.backup.down_s = True, 0.0
        world.backup.machine.die()
        self._compare("after a power cut at rest")
        with trio.move_on_after(_REST_S):
            await _until(lambda: world.service is not before)
            await self._settle()
            await _until(lambda: self._is_durable() and self._is_recording())
            self._witness.check_histories(_MOMENTS, "after a power cut at rest")
            return
        raise Violation("the history is not opened again")

    def _is_recording(self) -> bool:
        service = self._world.service
        return service is not None and service.is_recording(self._witness.peer(self._world.owner.name))

    async def _rest(self) -> None:
        with trio.move_on_after(_REST_S):
            if self._world.replicas.troubled:
                await trio.sleep(2 * ROOTS_S)  # a backup node notices by itself
            await self._settle()
            if self._world.tampered:
                # Changes of the replica by others are found only by a mirror.
                owner = self._world.owner
                owner.forgets = True
                if owner.scope is not None:
                    owner.scope.cancel()
                await _until(lambda: not owner.forgets)
                await self._settle()
            if self._only_linked_differ():
                self._world.say("a scan")
                for capture in self._world.owner.captures:
                    capture.overflow("a scan")
                await self._settle()
            await _until(lambda: all(node.refused for node in self._world.works[:-1]))
            # More work may have begun since: the owner checks a file with several names once more.
            await _until(self._is_durable)
            self._world.say("at rest")
            return
        status = self._world.owner.status
        raise Violation(f"it does not come to rest: {status and status.as_json()}")

    async def _settle(self) -> None:
        """Returns when the owner reports that all changes before the call are durable on the replica."""
        if self._world.plan.capture == "scan":
            await trio.sleep(2 * SCAN_S)
        await _until(self._is_told)
        since = self._world.clock.monotonic_ns()
        await _until(lambda: self._world.owner.status is not None and self._world.owner.status.settled_ns > since)
        self._witness.hear(self._world.owner)

    def _is_durable(self) -> bool:
        """True when everything applied for the owner is durable. The rest may be anything after a power cut."""
        received = () if self._world.service is None else self._world.service.statuses()
        peer = self._witness.peer(self._world.owner.name)
        return all(each.applied_seq == each.durable_seq for each in received if each.peer == peer)

    def _is_told(self) -> bool:
        """True when the owner's capture is open and has reported everything."""
        captures = self._world.owner.captures
        return self._world.plan.capture == "scan" or (bool(captures) and all(capture.is_idle for capture in captures))

    def _only_linked_differ(self) -> bool:
        pairs = list(zip(self._world.owner.roots, map(self._world.kernel.find, self._world.targets), strict=True))
        extra = self._world.plan.keeps_orphans
        differ = any(differences(*pair, extra_allowed=extra) for pair in pairs)
        return differ and all(only_linked_differ(*pair, extra_allowed=extra) for pair in pairs)

    def _compare(self, when: str) -> None:
        found = []
        for root, (source, target) in enumerate(zip(self._world.owner.roots, self._world.targets, strict=True)):
            lines = differences(source, self._world.kernel.find(target), extra_allowed=self._world.plan.keeps_orphans)
            found += [f"root {root}: {line}" for line in lines]
        if not self._world.tampered and not self._world.replicas.troubled:
            replicas = [self._world.kernel.find(target) for target in self._world.targets]
            found += self._world.orphans.lost(self._world.owner.roots, replicas)
        if found:
            raise Violation(f"{when} the replica differs: " + "; ".join(found))
        if self._world.kernel.root.disk.changes != self._world.outside_changes:
            raise Violation("something was written outside of the replica")


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (the product has no event for it, and this clock costs nothing)
        await trio.sleep(0.5)
