"""Accidents of a node: its life ends, its clock jumps, its own files are damaged, another node takes over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from i2core.testing.sim.accidents.scene import Befall, Scene
from i2core.testing.sim.nodes import Node, WorkNode
from i2core.testing.sim.plan import Step
from i2core.testing.sim.roots import exchange_source

_LATEST_S = 0.3
"""A node that is to die at a step dies at the latest after this time, while its last writes may not be synced yet."""


def end(scene: Scene, node: Node, step: Step, how: str) -> None:
    """Ends the node's life: by an orderly stop, or at one of its next steps; without a step, after a moment."""
    node.down_s = step.lasts_s
    node.loses = how == "power"
    if node.machine is None or node.scope is None:
        return
    if how == "stop":
        node.scope.cancel()
        return
    machine = node.machine
    machine.left, machine.dies_on = step.steps, step.on

    def now() -> None:
        if machine.left and node.machine is machine and node.scope is not None:
            machine.die()

    scene.later(_LATEST_S, now)


def while_down(scene: Scene, node: Node, step: Step, what: Callable[[], None]) -> None:
    """Has something happen while the node is down: its life ends, and it is started again soon."""
    end(scene, node, step, "stop" if step.steps % 2 else "kill")
    node.down_s = min(step.lasts_s, 1.0)
    if node.machine is None:
        what()
    else:
        node.meanwhile.append(what)


def _end(scene: Scene, step: Step) -> int:
    how, _, who = step.what.partition(" ")
    end(scene, scene.world.backup if who == "backup" else scene.world.owner, step, how)
    return 0


def _turn_clock(scene: Scene, step: Step) -> int:
    node = scene.world.chances["clock"].choice([scene.world.backup, scene.world.owner])
    node.wall_offset_s += step.lasts_s
    if node.machine is not None:
        node.machine.wall_offset_s = node.wall_offset_s
    return 0


def _take_over(scene: Scene, step: Step) -> int:
    """Another work node owns the replica from now on. The previous one may be cut off from the network for a while."""
    world = scene.world
    if len(world.works) > 1:
        return 0
    before, node = world.works[0], world.work_node(2)
    if step.steps % 2:
        world.net.cut_off.add(before.name)
        for connection in world.net.connections:
            connection.stall()
        scene.later(step.lasts_s, world.net.cut_off.clear)
    world.works.append(node)
    world.applications.append(world.application(node))
    scene.nursery.start_soon(scene.lives.work, node)
    return 0


def _flip_catalog(scene: Scene, step: Step) -> int:
    scene.world.owner.flips = True
    end(scene, scene.world.owner, step, "stop")
    return 0


def _spoil_catalog(scene: Scene, step: Step) -> int:
    scene.world.databases.sqlite.statements_left = step.steps
    return 0


def _fill_work(scene: Scene, step: Step) -> int:
    world, node = scene.world, scene.world.owner
    # Other programs use the disk as well: most often there is room again for the very next statement.
    lacking = (1, 1, 1, 3, -1)[step.steps % 5]
    world.databases.sqlite.fill(3 + step.steps % 13, lacking, undoes=step.steps % 4 == 0)
    if step.steps % 3 == 0:  # otherwise the node's own files are on a separate disk
        for disk in node.disks:
            disk.capacity_bytes = disk.used_bytes + step.steps * 40
    world.fills_work = True
    scene.later(step.lasts_s, partial(_make_room, scene))
    return 4 + step.steps % 6


def _make_room(scene: Scene) -> None:
    scene.world.databases.sqlite.make_room()
    for node in scene.world.works:
        for disk in node.disks:
            disk.capacity_bytes = None


def _exchange_source(scene: Scene, step: Step) -> int:
    owner = scene.world.owner

    def exchange(node: WorkNode = owner) -> None:
        _make_room(scene)
        exchange_source(scene.world.kernel, node, scene.world.chances["work"], scene.world.say)

    while_down(scene, owner, step, exchange)
    return 0


def heal(scene: Scene) -> None:
    """Nodes that are down come back, no node is about to die, and all disks have room."""
    _make_room(scene)
    scene.world.databases.sqlite.heal()
    for node in (scene.world.backup, *scene.world.works):
        node.meanwhile.clear()
        node.up_now.set()
        if node.machine is not None:
            node.machine.left = 0


BEFALLS: dict[str, Befall] = {
    **dict.fromkeys([f"{how} {who}" for how in ("kill", "power", "stop") for who in ("work", "backup")], _end),
    "clock": _turn_clock,
    "takeover": _take_over,
    "flip catalog": _flip_catalog,
    "spoil catalog": _spoil_catalog,
    "fill work": _fill_work,
    "exchange source": _exchange_source,
}
