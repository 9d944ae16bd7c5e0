"""Accidents of the replica: its disk is full or gone, it refuses records, others change it, or its node lacks
descriptors."""

from __future__ import annotations

from functools import partial

from i2core.testing.sim.accidents.nodes import while_down
from i2core.testing.sim.accidents.scene import Befall, Scene
from i2core.testing.sim.accidents.trimming import trim
from i2core.testing.sim.plan import Step
from i2core.testing.sim.unread import SHARES


def _tamper(scene: Scene, step: Step) -> int:
    # A change by others may have the size and time that were sent: only a strict compare is certain to find it.
    if scene.world.plan.strict:
        scene.world.tampered = True
        scene.world.meddle(1 + step.steps % 3)
    return 0


def _trap(scene: Scene, step: Step) -> int:
    scene.world.tampered = True
    scene.world.lay_trap()
    return 2 + step.steps % 5


def _exchange(scene: Scene, step: Step) -> int:
    scene.world.tampered = True
    if step.steps % 2:
        scene.world.exchange()
    else:
        while_down(scene, scene.world.backup, step, scene.world.exchange)
    return 2 + step.steps % 5


def _fail(scene: Scene, step: Step) -> int:
    watch = scene.witness.watch
    watch.fails, watch.unheard = 1 + step.steps % 5, step.what == "fail unheard"
    return 0


def _deny_records(scene: Scene, step: Step) -> int:
    scene.witness.watch.denies = (0.1, 0.5, 1.0)[step.steps % 3]
    scene.later(step.lasts_s, scene.witness.watch.permit)
    return 0


def _fill(scene: Scene, step: Step) -> int:
    for disk in scene.world.backup.disks:
        disk.capacity_bytes = disk.used_bytes + step.steps * 40
    scene.world.fills_history = True
    scene.later(step.lasts_s, scene.world.make_room)
    return 0


def _scarce(scene: Scene, step: Step) -> int:
    scene.world.scarce.share = SHARES[step.steps % len(SHARES)]
    scene.later(step.lasts_s, scene.world.scarce.end)
    return 1 + step.steps % 4


def _unmount(scene: Scene, step: Step) -> int:
    replicas = scene.world.replicas
    while_down(scene, scene.world.backup, step, partial(replicas.unmount, step.steps % scene.world.plan.roots))
    scene.later(step.lasts_s, replicas.mount)
    return 0


def _move(scene: Scene, step: Step) -> int:
    beside = scene.world.replicas.move_away(step.steps % scene.world.plan.roots)
    machine = scene.world.backup.machine
    if machine is not None:
        machine.realms.append(beside)  # the backup node may create the target again
    return 0


def _fill_history(scene: Scene, step: Step) -> int:
    disk = scene.world.backup.disks[-1]
    disk.capacity_bytes = disk.used_bytes + step.steps * 20
    scene.world.fills_history = True
    scene.later(step.lasts_s, scene.world.make_room)
    return 2 + step.steps % 5


def _trim_history(scene: Scene, step: Step) -> int:
    tasks = scene.world.backup.tasks
    if tasks is not None:
        tasks.start_soon(trim, scene, step)
    return step.steps % 4


def heal(scene: Scene) -> None:
    """Disks have room, replicas are where they were, and no record is refused."""
    scene.world.make_room()
    scene.world.replicas.heal()
    scene.world.make_room()  # also for targets that were moved away
    scene.world.scarce.end()
    scene.witness.watch.fails = 0
    scene.witness.watch.permit()


BEFALLS: dict[str, Befall] = {
    "tamper": _tamper,
    "trap": _trap,
    "exchange in replica": _exchange,
    "fail": _fail,
    "fail unheard": _fail,
    "deny records": _deny_records,
    "fill backup": _fill,
    "scarce backup": _scarce,
    "unmount replica": _unmount,
    "move replica": _move,
    "fill history": _fill_history,
    "trim history": _trim_history,
}
