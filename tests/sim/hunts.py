"""How long the simulation looks for a planted bug, and in which histories."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

from i2core.testing.sim.plan import Plan, plan


class Hunt(NamedTuple):
    """Within how many histories a bug must be found, and at which seed to begin."""

    most: int
    first: int = 0
    """The seed to begin at: one that showed it when this was written. Any other does as well, in more time."""
    fit: Callable[[Plan], bool] = lambda _: True
    """Tells which plans can show it: only these are played, and count."""
    crash: bool = False
    """It may show in a crash of a node. Else a crash does not count: the code has outgrown the bug."""
    quick: bool = False
    """It stands for a promise that each change is to be held to, and fitting plans show it within some tens of
    histories whatever the engine does: part of `make test`. The others are part of `make test-all`."""

    def seeds(self) -> Iterator[int]:
        """The seeds of the histories to play."""
        return itertools.islice((seed for seed in itertools.count(self.first) if self.fit(plan(seed))), self.most)


def takes_over(plan: Plan) -> bool:
    """Two work nodes that the backup node cannot distinguish, so that only the epoch counts; and the backup node
    restarts."""
    befalls = {step.what for step in plan.steps}
    restarts = {"kill backup", "power backup", "stop backup"}
    return not plan.named and "takeover" in befalls and bool(befalls & restarts)


def live(plan: Plan, what: str, *others: str) -> bool:
    """The accident happens during live replication, with no others than `others`: so no mirror follows that would find
    all differences."""
    befalls = {step.what for step in plan.steps}
    return plan.from_rest and plan.capture == "sim" and what in befalls <= {"work", what, *others}


def cuts_power(plan: Plan) -> bool:
    """The backup node loses its power at some time."""
    return any(step.what == "power backup" for step in plan.steps)


def loses_power(plan: Plan) -> bool:
    return live(plan, "power backup", "clock", "kill backup", "overflow")


def loses_reports(plan: Plan) -> bool:
    return plan.strict and live(plan, "overflow", "cut", "stall", "lose an end", "clock", "kill backup")


def overflows(plan: Plan) -> bool:
    """Content that changes under its old size and time is owed, and its report may be lost."""
    return plan.strict and any(step.what == "overflow" for step in plan.steps)


def fills_work(plan: Plan) -> bool:
    return plan.healed_s > 0 and live(
        plan, "fill work", "cut", "stall", "lose an end", "clock", "kill backup", "stop work"
    )


def flips(plan: Plan) -> bool:
    return any(step.what == "flip catalog" for step in plan.steps)


def lacks_descriptors(plan: Plan) -> bool:
    return live(plan, "scarce backup", "cut", "stall", "lose an end", "clock")


def exchanges_source(plan: Plan) -> bool:
    return live(plan, "exchange source", "cut", "stall", "lose an end", "clock", "kill backup")


def loses_replica(plan: Plan) -> bool:
    return plan.allows_above and any(step.what == "unmount replica" for step in plan.steps)


def denies(plan: Plan) -> bool:
    return live(plan, "deny records", "clock", "kill backup", "cut", "stall")


def is_narrow(plan: Plan) -> bool:
    return plan.narrow and not plan.from_rest


def keeps_orphans(plan: Plan) -> bool:
    """There are orphans, and a rule that keeps them."""
    return plan.keeps_orphans


def sets_clock_back(plan: Plan) -> bool:
    """A clock is set back, and records have times."""
    return plan.history and any(step.what == "clock" and step.lasts_s < 0 for step in plan.steps)


def fails_unheard(plan: Plan) -> bool:
    """A record fails, and the work node loses its power: perhaps before it hears of that, and what compares then goes
    by size and time."""
    befalls = [step.what for step in plan.steps if step.what != "work"]
    return not plan.strict and befalls[:1] in (["fail"], ["fail unheard"]) and "power work" in befalls


def keeps_history(plan: Plan) -> bool:
    """The backup node keeps a history."""
    return plan.keeps_history


def loses_power_with_history(plan: Plan) -> bool:
    """The backup node keeps a history, and loses its power."""
    return plan.keeps_history and cuts_power(plan)


def fails_with_history(plan: Plan) -> bool:
    """The backup node keeps a history, and records fail."""
    return plan.keeps_history and any(step.what in ("fail", "fail unheard", "deny records") for step in plan.steps)


def thins_history(plan: Plan) -> bool:
    """The backup node keeps a history, and somebody gives up old moments."""
    return plan.keeps_history and any(step.what == "trim history" for step in plan.steps)
