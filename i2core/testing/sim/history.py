"""Plays one history: a seed, a plan, a trace, and the verdict."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from contextlib import suppress

import attrs
import trio
from trio.testing import MockClock

from i2core.tasks import leaf
from i2core.testing.sim.course import Course
from i2core.testing.sim.machine import Killed, Violation, running
from i2core.testing.sim.plan import Plan, plan
from i2core.testing.sim.seam import installed
from i2core.testing.sim.world import World


@attrs.frozen(kw_only=True)
class Verdict:
    """The result of a history. `violation` is empty when all promises were kept."""

    plan: Plan
    violation: str
    trace: list[str]
    simulated_s: float
    steps: int
    cpu_s: float = 0.0

    @property
    def seed(self) -> int:
        """The seed of the history."""
        return self.plan.seed


class _Steps(trio.abc.Instrument):
    """Counts the steps of each machine's tasks, so that the machine can die at any of them."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        machine = task.context.get(running)
        if machine is not None and machine.left:
            with suppress(Killed):
                machine.step()


def play(seed: int) -> Verdict:
    """Plays the history of a seed. Meanwhile the process must not run anything else of the product."""
    begun = time.process_time()
    # Abandoned generators are finalized when the collector finds them, and the moment must not depend on what ran
    # before. Objects that exist already are frozen, so that collecting is cheap.
    gc.disable()
    gc.freeze()
    sys.unraisablehook = lambda _: None  # a dead machine's generators cannot even close
    try:
        verdict = _play(seed)
    finally:
        gc.collect()  # after the last reference to the world is gone
        gc.unfreeze()
        gc.enable()
        sys.unraisablehook = sys.__unraisablehook__
    return attrs.evolve(verdict, cpu_s=time.process_time() - begun)


def _play(seed: int) -> Verdict:
    world = World(plan(seed))
    steps, clock = _Steps(), MockClock(autojump_threshold=0)
    violation = ""
    try:
        with installed(world.seam, order=seed):
            trio.run(Course(world).run, clock=clock, instruments=[steps])
    except BaseException as error:
        found = leaf(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, KeyboardInterrupt):
            raise
        violation = _told(found)
    else:
        violation = world.violation
    finally:
        world.close()
    return Verdict(
        plan=world.plan,
        violation=violation,
        trace=world.trace,
        simulated_s=clock.current_time(),
        steps=steps.count,
    )


def _told(error: BaseException) -> str:
    if isinstance(error, Violation):
        return str(error)
    assert not isinstance(error, Killed)
    return "crashed: " + "".join(traceback.format_exception(error))
