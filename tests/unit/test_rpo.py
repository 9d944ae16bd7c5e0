"""Recovery points: how old they are in each state of a rule, and when an objective is reported as broken."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Code
from i2core.config.model import Pair, Rule
from i2core.node.daemon.objectives import Objectives
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.rule.life.life import Life
from i2core.rule.life.rpo import HOLDS_AT, RecoveryPoint, is_broken
from i2core.rule.life.status import RuleStatus, State

S = 1_000_000_000


def status(state: State, pending_s: float | None = None) -> RuleStatus:
    """A rule in that state; its oldest change that is not durable is of second `pending_s`."""
    return RuleStatus(name="data1", state=state, oldest_pending_ns=None if pending_s is None else int(pending_s * S))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.001, 100))
def test_an_objective_is_broken_above_it_and_holds_again_well_below_it(ages: list[float], rpo_s: float) -> None:
    broken = False
    for age_s in ages:
        before, broken = broken, is_broken(broken, age_s, rpo_s)
        if age_s > rpo_s:
            assert broken
        elif age_s <= rpo_s * HOLDS_AT:
            assert not broken
        else:
            assert broken is before


def test_a_rule_that_replicates_is_as_old_as_its_oldest_change_that_is_not_durable() -> None:
    point = RecoveryPoint(0)
    assert point.age_s(status(State.REPLICATING), 100 * S) == 0
    assert point.age_s(status(State.REPLICATING, 97), 100 * S) == 3


@pytest.mark.parametrize("state", [State.ABNORMAL, State.INVALID])
def test_a_rule_without_its_link_counts_the_age_of_pending_changes(state: State) -> None:
    point = RecoveryPoint(0)
    point.age_s(status(State.REPLICATING), 100 * S)
    assert point.age_s(status(state), 150 * S) == 0
    assert point.age_s(status(state, 155), 160 * S) == 5


@pytest.mark.parametrize("state", [State.STOPPED, State.LISTING, State.MIRRORING])
def test_a_rule_that_does_not_replicate_protects_nothing(state: State) -> None:
    point = RecoveryPoint(10 * S)
    assert point.age_s(status(state), 40 * S) == 30
    point.age_s(status(State.REPLICATING), 50 * S)
    assert point.age_s(status(state, 59), 60 * S) == 10


def test_a_mirror_that_loses_its_link_is_still_no_protection() -> None:
    point = RecoveryPoint(0)
    point.age_s(status(State.MIRRORING), 10 * S)
    assert point.age_s(status(State.ABNORMAL), 20 * S) == 20


def rule(rpo_s: float | None) -> Rule:
    return Rule(name="data1", backup="bak1", pairs=(Pair(source=b"/s", target=b"/t"),), rpo_s=rpo_s)


@attrs.define
class Bench:
    """A rule whose state and clock a test sets."""

    rpo_s: float | None
    now_s: float = 0.0
    lines: list[tuple[str, Code | None, str]] = attrs.field(factory=list)
    runner: RuleRunner = attrs.field(init=False)
    objectives: Objectives = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        async def run(life: Life) -> None:
            raise AssertionError("not started here")

        self.runner = RuleRunner("data1", run, lambda *line: None)
        self.objectives = Objectives(lambda: int(self.now_s * S))
        self.objectives.set([rule(self.rpo_s)])

    def say(self, name: str, code: Code | None, line: str) -> None:
        self.lines.append((name, code, line))

    def at(self, now_s: float, state: State, pending_s: float | None = None) -> list[Code | None]:
        """The report when the rule has this status at that second."""
        self.now_s = now_s
        self.runner.status.state = state
        self.runner.status.oldest_pending_ns = None if pending_s is None else int(pending_s * S)
        self.lines.clear()
        self.objectives.judge(self.runner, self.say)
        return [code for _, code, _ in self.lines]


def test_broken_and_holding_again_are_each_reported_once() -> None:
    bench = Bench(30.0)
    assert bench.at(20, State.MIRRORING) == []
    assert bench.at(25, State.REPLICATING, 24.9) == []
    assert bench.at(54, State.ABNORMAL, 24.9) == []
    assert bench.at(55, State.INVALID, 24.9) == [Code.RPO_BROKEN]
    assert "30.1 s old, 30 s are allowed" in bench.lines[0][2]
    assert bench.at(60, State.INVALID, 24.9) == []
    assert bench.objectives.figures(bench.runner) == {
        "rpo_seconds": 30.0,
        "rpo_actual_seconds": 35.1,
        "rpo_broken": True,
    }
    assert bench.at(61, State.REPLICATING, 40) == []
    assert bench.at(62, State.REPLICATING, 50) == [Code.RPO_HOLDS]
    assert bench.at(63, State.REPLICATING) == []
    assert not bench.objectives.figures(bench.runner)["rpo_broken"]


def test_the_error_of_the_rule_is_reported_with_it() -> None:
    bench = Bench(1.0)
    bench.runner.status.code, bench.runner.status.cause = Code.NETWORK, "connection refused"
    assert bench.at(5, State.STOPPED) == [Code.RPO_BROKEN]
    assert "rule stopped [3522] connection refused" in bench.lines[0][2]


def test_a_rule_without_an_objective_has_a_recovery_point_and_no_alarm() -> None:
    bench = Bench(None)
    assert bench.at(1000, State.STOPPED) == []
    assert bench.objectives.figures(bench.runner) == {
        "rpo_seconds": None,
        "rpo_actual_seconds": 1000.0,
        "rpo_broken": False,
    }


def test_an_objective_can_be_changed_while_the_rule_runs() -> None:
    bench = Bench(30.0)
    assert bench.at(20, State.STOPPED) == []
    bench.objectives.set([rule(10.0)])
    assert bench.at(20, State.STOPPED) == [Code.RPO_BROKEN]
    bench.objectives.set([rule(None)])
    assert bench.at(21, State.STOPPED) == []
    assert not bench.objectives.figures(bench.runner)["rpo_broken"]


async def test_all_rules_are_checked_every_second(autojump_clock: trio.testing.MockClock) -> None:
    bench = Bench(None)
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.objectives.watch, lambda: [rule(3.0)], {"data1": bench.runner}, bench.say)
            while True:
                bench.now_s = trio.current_time() - 0.5
                await trio.sleep(0.5)
    assert [code for _, code, _ in bench.lines] == [Code.RPO_BROKEN]
