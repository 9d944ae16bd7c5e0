"""The plan of a history: drawn from the seed alone, before anything runs, so that a person can read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import attrs

from i2core.testing.sim.machine import ANY, PROMISE, SYNC, WRITE

ACCIDENTS = {
    "kill work": 4,
    "power work": 2,
    "stop work": 2,
    "kill backup": 4,
    "power backup": 8,
    "stop backup": 1,
    "cut": 4,
    "half-open": 3,
    "lose an end": 3,
    "stall": 2,
    "refuse": 2,
    "fill backup": 2,
    "fill work": 3,
    "clock": 2,
    "overflow": 3,
    "takeover": 4,
    "tamper": 2,
    "trap": 2,
    "exchange in replica": 3,
    "fail": 6,
    "fail unheard": 4,
    "deny records": 4,
    "unread": 4,
    "scarce backup": 3,
    "exchange source": 3,
    "unmount replica": 3,
    "move replica": 3,
    "flip catalog": 2,
    "spoil catalog": 2,
}
"""The accidents, with their weights: how often each occurs compared with the others."""


HISTORY_ACCIDENTS = {"fill history": 2, "trim history": 4, "fail": 2}
"""Those of a history, also with their weights."""


@attrs.frozen
class Step:
    """At `at_s` seconds `what` happens: operations, or an accident with its parameters."""

    at_s: float
    what: str
    steps: int = 0
    """For the death of a node: the number of steps of the kind `on` until it dies. For `work`: the number of
    operations."""
    on: str = ANY
    lasts_s: float = 0.0
    """Time until the accident is over; for a clock: how far it jumps."""

    def __str__(self) -> str:
        return f"{self.at_s:.3f} {self.what} steps={self.steps} on={self.on} lasts={self.lasts_s:.3f}"


@attrs.frozen(kw_only=True)
class Plan:
    """One history: an attribute for each choice that the seed makes."""

    seed: int
    roots: int
    strict: bool
    """The mirror compares contents, not sizes and times."""
    keeps_orphans: bool
    capture: str
    rescan_s: float
    spool_bytes: int
    """How many bytes may wait on the work node's disk; 0: none."""
    slowness: float
    """The share of work in threads that is slow."""
    named: bool
    """The backup node distinguishes its work nodes by name; otherwise all are one."""
    before: int
    """Operations on the sources before the rule starts."""
    foreign: int
    """Operations on the targets before the rule starts, which leave objects there."""
    work_first_s: float
    allows_above: bool
    """The backup node may write in the directories that contain the targets; otherwise only in the targets."""
    stops: bool
    """An object that cannot be read stops the rule."""
    from_rest: bool
    """The times of the steps begin when the rule has mirrored and rests: all of them happen during live replication."""
    narrow: bool
    """Somebody has left much on the targets. Their disks have room for the content of the sources, but not for both."""
    history: bool
    """The rule wants a history, so its records have times."""
    keeps_history: bool
    """The backup node keeps one; otherwise nobody does."""
    healed_s: float
    """Time between the last step and the end of all accidents, in which the last one may take its full effect."""
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """The plan for people."""
        head = attrs.asdict(self, filter=lambda attribute, _: attribute.name != "steps")
        return [", ".join(f"{key}={value}" for key, value in head.items()), *map(str, self.steps)]


def plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(f"plan {seed}")  # noqa: S311 (a history, not a secret)
    lasts = chance.uniform(1.0, 8.0)
    steps = [Step(chance.uniform(0.0, lasts), "work", chance.choice((1, 2, 4, 8))) for _ in range(chance.randint(2, 6))]
    names, weights = list(ACCIDENTS), list(ACCIDENTS.values())
    for what in chance.choices(names, weights, k=chance.choice((0, 1, 2, 2, 3, 3, 4, 5))):
        until = chance.choice((0.05, 0.5, 3.0, 12.0, 40.0))
        if what == "clock":
            until = chance.choice((-86_400.0, -60.0, -0.5, 3600.0))
        # Nodes die soon after some work, when there is something to lose.
        near = chance.choice(steps).at_s + chance.choice((0.0, 0.003, 0.01, 0.03, 0.1, 0.21, 0.5))
        on = chance.choice((ANY, WRITE, SYNC, PROMISE, PROMISE) if what.endswith("backup") else (ANY, WRITE, SYNC))
        count = 1 + chance.randrange({ANY: chance.choice((10, 60, 300, 1000)), WRITE: 40, SYNC: 12, PROMISE: 3}[on])
        steps.append(Step(near, what, count, on, until))
    keeps_orphans = chance.random() < 0.1
    drawn = Plan(
        seed=seed,
        roots=chance.choice((1, 1, 2)),
        strict=chance.random() < 0.5,
        keeps_orphans=keeps_orphans,
        capture=chance.choice(("sim",) * 9 + ("scan",)),
        rescan_s=chance.choice((0.0, 0.0, 7.0)),
        spool_bytes=chance.choice((0, 40_000, 400_000)),
        slowness=chance.choice((0.05, 0.2, 0.6)),
        named=chance.random() < 0.5,
        before=chance.choice((0, 5, 15, 25)),
        foreign=chance.choice((0, 0, 0, 6)),
        work_first_s=chance.choice((0.0, 0.0, 1.0)),
        allows_above=chance.random() < 0.5,
        stops=chance.random() < 0.25,
        from_rest=chance.random() < 0.5,
        narrow=not keeps_orphans and chance.random() < 0.15,
        healed_s=chance.choice((0.0, 0.5, 2.0)),
        history=chance.random() < 0.5,
        keeps_history=False,
        steps=tuple(steps),
    )
    if drawn.history and not drawn.narrow and chance.random() < 0.5:
        drawn = attrs.evolve(drawn, keeps_history=True, steps=(*steps, *_with_history(chance, steps)))
    return attrs.evolve(drawn, steps=tuple(sorted(drawn.steps, key=lambda step: step.at_s)))


def _with_history(chance: Random, steps: Sequence[Step]) -> Iterator[Step]:
    """What happens to a history. Drawn after all else, so that all else does not depend on it."""
    # It begins when the first mirror is done: there must be more work after that.
    later = max(step.at_s for step in steps) + chance.choice((0.0, 2.0, 5.0))
    work = [
        Step(later + chance.uniform(0.0, 6.0), "work", chance.choice((4, 8, 8))) for _ in range(chance.randint(1, 5))
    ]
    yield from work
    names, weights = list(HISTORY_ACCIDENTS), list(HISTORY_ACCIDENTS.values())
    for what in chance.choices(names, weights, k=chance.choice((0, 0, 1, 1, 2, 3))):
        near = chance.choice(work).at_s + chance.choice((0.0, 0.1, 0.5, 3.0))
        yield Step(near, what, chance.randrange(1, 1000), ANY, chance.choice((0.05, 0.5, 3.0, 12.0)))
    # What a history is for: a crash while something is written.
    for _ in range(chance.choice((0, 0, 1, 2))):
        on = chance.choice((ANY, WRITE, WRITE, SYNC, SYNC))
        near = chance.choice(work).at_s + chance.choice((0.0, 0.003, 0.01, 0.03, 0.1, 0.21, 0.5))
        what = chance.choice(("kill backup", "power backup", "power backup"))
        yield Step(near, what, chance.randrange(1, {ANY: 300, WRITE: 60, SYNC: 16}[on]), on, chance.choice((0.05, 0.5)))
