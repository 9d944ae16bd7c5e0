"""Accidents of the network."""

from __future__ import annotations

from i2core.testing.sim.accidents.scene import Befall, Scene
from i2core.testing.sim.plan import Step


def _cut(scene: Scene, step: Step) -> int:
    scene.world.net.cut()
    return 0


def _refuse(scene: Scene, step: Step) -> int:
    scene.world.net.up = False
    scene.later(step.lasts_s, scene.world.net.come_up)
    scene.world.net.cut()
    return 0


def _half_open(scene: Scene, step: Step) -> int:
    chance = scene.world.chances["net"]
    for connection in scene.world.net.connections:
        connection.stall(there=chance.random() < 0.5, back=chance.random() < 0.5)
    return 0


def _lose_an_end(scene: Scene, step: Step) -> int:
    for connection in scene.world.net.connections:
        connection.stall()
        scene.world.chances["net"].choice(connection.ends).break_()
    return 0


def _stall(scene: Scene, step: Step) -> int:
    for connection in scene.world.net.connections:
        connection.stall()
        scene.later(step.lasts_s, connection.resume)
    return 0


def heal(scene: Scene) -> None:
    """Every node can connect, and delayed data arrive."""
    net = scene.world.net
    net.come_up()
    net.cut_off.clear()
    for connection in net.connections:
        connection.resume()


BEFALLS: dict[str, Befall] = {
    "cut": _cut,
    "refuse": _refuse,
    "half-open": _half_open,
    "lose an end": _lose_an_end,
    "stall": _stall,
}
