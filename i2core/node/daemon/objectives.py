"""Watches the recovery points of a node's rules, and logs when an objective is broken and when it holds again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import trio

from i2core.api import Code
from i2core.config.model import Rule
from i2core.config.words import bilingual
from i2core.node.daemon.rule_runner import RuleRunner
from i2core.rule.life.report import Line, Say
from i2core.rule.life.rpo import RecoveryPoint

TICK_S = 1.0


@attrs.define
class Objectives:
    """The recovery point of each rule by its name."""

    clock_ns: Callable[[], int] = time.monotonic_ns
    points: dict[str, RecoveryPoint] = attrs.field(factory=dict, init=False)

    def set(self, rules: Iterable[Rule]) -> None:
        """Sets the objectives of these rules."""
        for rule in rules:
            self._point(rule.name).rpo_s = rule.rpo_s

    def figures(self, runner: RuleRunner) -> dict[str, Any]:
        """For the rule's status: ``{"rpo_seconds", "rpo_actual_seconds", "rpo_broken"}``."""
        point = self._point(runner.name)
        return {
            "rpo_seconds": point.rpo_s,
            "rpo_actual_seconds": round(point.age_s(runner.status, self.clock_ns()), 3),
            "rpo_broken": point.broken,
        }

    def judge(self, runner: RuleRunner, say: Say) -> None:
        """Checks one rule now, and logs a change."""
        point, now_ns = self._point(runner.name), self.clock_ns()
        code = point.judge(runner.status, now_ns)
        if code is None or (code is Code.RPO_HOLDS and point.rpo_s is None):
            return  # an objective that was removed is neither broken nor held
        age_s, status = point.age_s(runner.status, now_ns), runner.status
        cause = bilingual(
            f"the recovery point is {age_s:.1f} s old, {point.rpo_s:g} s are allowed; rule {status.state.value}",
            f"恢复点距今 {age_s:.1f} 秒，允许 {point.rpo_s:g} 秒；规则状态 {status.state.value}",
        )
        why = ""
        if code is Code.RPO_BROKEN and status.code is not None:
            why = f" [{int(status.code)}] {status.cause or status.code.text.en}"
        say(runner.name, code, Line(f"{code.text.en}: {cause}{why}", obj=runner.name, cause=cause))

    async def watch(self, rules: Callable[[], Iterable[Rule]], runners: Mapping[str, RuleRunner], say: Say) -> None:
        """Checks all rules once a second, until cancelled. `rules` returns those of the current config."""
        while True:
            self.set(rules())
            for runner in list(runners.values()):
                self.judge(runner, say)
            await trio.sleep(TICK_S)

    def _point(self, name: str) -> RecoveryPoint:
        return self.points.setdefault(name, RecoveryPoint(self.clock_ns()))
