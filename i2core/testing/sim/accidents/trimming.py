"""Somebody gives up a part of a history, while records go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from i2core.api import I2Error
from i2core.api.journal import Mark, MarkKind
from i2core.testing.sim.accidents.scene import Scene
from i2core.testing.sim.machine import running
from i2core.testing.sim.plan import Step

if TYPE_CHECKING:
    from i2core.history.record.history import History

_SOME, _PATIENCE_S = 12, 5.0
"""He waits a while until so many records could be given up."""


async def trim(scene: Scene, step: Step) -> None:
    """Keeps single moments, and gives up the others before some moment. Runs on the backup node, and fails when this
    one cannot open the history or has no room."""
    world = scene.world
    machine, service = world.backup.machine, world.service
    assert machine is not None and service is not None
    running.set(machine)
    peer = scene.witness.peer(world.owner.name)
    try:
        async with service.history("sim", peer) as history:
            await _trim(scene, peer, history)
    except (I2Error, OSError) as error:
        world.say(f"the history is not trimmed: {error}")


async def _trim(scene: Scene, peer: str, history: History) -> None:
    world = scene.world
    chance, chronicle = world.chances["history"], world.chronicle(peer)
    chronicle.meet(history)
    first = history.kept().floor
    with trio.move_on_after(_PATIENCE_S):
        while history.durable.seq < first + _SOME:  # noqa: ASYNC110 (the product has no event for it)
            await trio.sleep(0.1)
    last = history.durable.seq
    if first >= last or history.thinner is None:
        return
    before = chance.randint((first + last) // 2, last)
    kept = sorted({chance.randint(first, before) for _ in range(chance.choice((0, 1, 3, 3)))})
    await history.journal.mark([Mark(seq + 1, 0, MarkKind.TAG, f"{seq}") for seq in kept])
    world.say(f"the history of {peer} is trimmed before {before}; also kept: {kept}")
    chronicle.keeps(before, kept)
    await history.thinner.trim(before)
    chronicle.check(4, "after it was trimmed")
