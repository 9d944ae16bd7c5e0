"""Some hundred histories; and a seed always gives the same history."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner
from i2_sink_fs import content

from i2core.cli.main import i2
from i2core.testing.sim.history import play
from i2core.testing.sim.plan import ACCIDENTS, HISTORY_ACCIDENTS, plan
from i2core.testing.sim.scale import LIMITS
from i2core.testing.sim.seam import limits, slots

SEEDS = range(0, 150)
PART = 10


@pytest.mark.parametrize("first", range(SEEDS.start, SEEDS.stop, PART))
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + PART):
        verdict = play(seed)
        assert not verdict.violation, "\n".join([*verdict.plan.lines(), *verdict.trace[-80:], verdict.violation])


def test_a_seed_is_one_history_in_every_process() -> None:
    seed = next(seed for seed in range(100) if len(plan(seed).steps) > 6)
    command = [sys.executable, "-m", "i2core.testing.sim.worker", str(seed), "1", "1", "1"]
    runs = []
    for hashes in ("1", "2"):
        output = subprocess.run(command, env={"PYTHONHASHSEED": hashes}, stdout=subprocess.PIPE, check=True)  # noqa: S603
        runs.append(json.loads(output.stdout)["trace"])
    play(seed + 1)  # what ran before makes no difference either
    assert play(seed).trace == runs[0] == runs[1]
    assert len(runs[0]) > 20


def test_plans_hold_every_accident_and_every_way_to_run_a_rule() -> None:
    plans = [plan(seed) for seed in range(600)]
    assert {step.what for each in plans for step in each.steps} == {*ACCIDENTS, *HISTORY_ACCIDENTS, "work"}
    assert {(each.strict, each.roots, each.capture) for each in plans} >= {(True, 2, "sim"), (False, 1, "scan")}


def test_the_simulation_replaces_everything_that_touches_the_system() -> None:
    assert all(slots().values()), "each thing that is replaced is held somewhere"
    assert {slot.name for slot, _ in limits()} == LIMITS.keys()


def test_nothing_stays_replaced_after_a_history() -> None:
    play(1)
    assert all(vars(slot.module)[slot.name] is slot.real for held in slots().values() for slot in held)
    assert all(vars(slot.module)[slot.name] is slot.real for slot, _ in limits())


def test_real_files_are_not_read_by_the_small_buffer_of_a_history() -> None:
    content._idle_buffers.clear()
    for seed in range(5):
        play(seed)
    with content.read_buffer() as buffer:
        assert len(buffer) == content._READ_BYTES


def test_the_command_reports_the_result_to_programs() -> None:
    done = CliRunner().invoke(i2, ["selftest", "--seeds", "4", "--first", "7", "--jobs", "2", "--json"])
    found: dict[str, Any] = json.loads(done.stdout)
    assert (done.exit_code, found["histories"], found["violations"], found["failed"]) == (0, 4, 0, [])
    assert found["histories_per_cpu_hour"] > 0
    again = CliRunner().invoke(i2, ["selftest", "--replay", "8", "--json"])
    assert json.loads(again.stdout)["plan"][0].startswith("seed=8,")
    assert again.exit_code == 0


def test_the_command_prints_a_history_that_broke_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(first: int, count: int, stride: int, in_full: bool) -> subprocess.Popen[str]:
        verdict = {"seed": 5, "violation": "lost a file", "plan": ["seed=5"], "trace": ["0.1 a step"]}
        line = json.dumps(verdict | {"cpu_seconds": 0.1, "simulated_seconds": 3.0, "steps": 9})
        return subprocess.Popen(["/bin/echo", line], stdout=subprocess.PIPE, text=True)  # noqa: S603

    monkeypatch.setattr("i2core.testing.sim.campaign._start", failed)
    done = CliRunner().invoke(i2, ["selftest", "--seeds", "1"])
    assert done.exit_code == 1
    assert "--replay 5" in done.stdout
    assert "lost a file" in done.stdout
    assert "0.1 a step" in done.stdout
