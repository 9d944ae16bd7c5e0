"""The accidents of `plan.ACCIDENTS`: one function each, in files by the part of the world that they hit."""

from __future__ import annotations

import trio

from i2core.testing.sim.accidents import network, nodes, replica, source
from i2core.testing.sim.accidents.scene import Befall, Scene
from i2core.testing.sim.plan import Step

BEFALLS: dict[str, Befall] = network.BEFALLS | nodes.BEFALLS | replica.BEFALLS | source.BEFALLS
"""The functions by the accident's name in the plan."""


async def carry_out(scene: Scene, step: Step) -> None:
    """Carries out a step of the plan."""
    scene.world.say(f"! {step.what} {step.steps} {step.lasts_s:.2f}")
    await _work(scene, step.steps if step.what == "work" else BEFALLS[step.what](scene, step))


async def _work(scene: Scene, count: int) -> None:
    """Applications carry out `count` operations."""
    world = scene.world
    chance = world.chances["work"]
    for _ in range(count):
        for node, application in zip(world.works, world.applications, strict=True):
            world.say(f"{node.name}: {application.work()}")
        if chance.random() < 0.3:
            await trio.sleep(chance.choice((0.0, 0.002, 0.05, 0.4)))


def heal(scene: Scene) -> None:
    """Ends all accidents: nothing breaks any more, and their causes are removed."""
    scene.world.say("nothing breaks any more")
    for module in (network, replica, source, nodes):
        module.heal(scene)
