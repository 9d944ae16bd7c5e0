"""Accidents of the source: its events are lost, or it cannot be read for a while."""

from __future__ import annotations

import errno

from i2core.testing.sim.accidents.scene import Befall, Scene
from i2core.testing.sim.plan import Step
from i2core.testing.sim.unread import PASSING, SHARES


def _overflow(scene: Scene, step: Step) -> int:
    """Events are lost. Often one of them reported new content with the same size and time, and only a new mode of that
    file is reported afterwards. A rule that trusts size and time need not find this."""
    world = scene.world
    hidden = world.plan.strict and step.steps % 4 > 0
    found = world.applications[-1].rewrite_unseen() if hidden else b""
    for capture in world.owner.captures:
        capture.overflow("overflow")
    if found:
        world.say(f"{world.owner.name}: other content in {found.decode('latin-1')!a}, and a new mode")
        world.kernel.chmod(found, 0o640)
    return 0


def _unread(scene: Scene, step: Step) -> int:
    # A disk error cannot be distinguished from a lasting one. If it does not stop the rule, the object is skipped and
    # reported until the next scan.
    world = scene.world
    world.unread.errors = (*PASSING, *(errno.EIO,) * (5 * world.plan.stops))
    world.unread.share = SHARES[step.steps % len(SHARES)]
    world.stops_unread = world.plan.stops
    scene.later(step.lasts_s, world.unread.end)
    return 1 + step.steps % 4


def heal(scene: Scene) -> None:
    """Everything can be read again."""
    scene.world.unread.end()


BEFALLS: dict[str, Befall] = {
    "overflow": _overflow,
    "unread": _unread,
}
