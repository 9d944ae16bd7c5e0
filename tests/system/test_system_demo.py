"""`i2 demo`: the whole system checks itself, and leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from i2core.cli.demo.past import Past, Recovered
from i2core.cli.demo.verdict import Verdict
from i2core.cli.demo.view import Lag
from i2core.cli.demo.workload import ROWS

if TYPE_CHECKING:
    from .commands import Commands


def _left(home: Path) -> list[str]:
    return [name for name in os.listdir(home) if name.startswith("i2-")]


def test_both_trees_are_equal_and_nothing_is_left(i2: Commands, tmp_path: Path) -> None:
    done = i2.run("demo", "--seconds", "3", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["equal"] is True
    assert verdict["differences"] == []
    assert verdict["database"]["integrity"] == "ok"
    assert verdict["database"]["source_rows"] == verdict["database"]["replica_rows"] > 0
    assert verdict["records"] > verdict["entries"] > 1000
    recovered = verdict["recovered"]
    assert recovered["equal"] is True
    assert recovered["rows"] == ROWS
    assert recovered["files"] > 1000
    assert f"The state before is {recovered['seq']}." in done.stderr
    assert "proved equal" in done.stderr
    assert ("Mounted the same state" in done.stderr) == Past.can_mount()
    assert _left(tmp_path / "home") == []


def test_a_past_that_did_not_come_back_is_a_difference() -> None:
    recovered = Recovered(seq=7, moment="then", files=1, bytes=1, seconds=1.0, equal=True, rows=ROWS)
    verdict = Verdict(
        differences=(),
        entries=1,
        bytes=1,
        integrity="ok",
        source_rows=1,
        replica_rows=1,
        operations={},
        captured=1,
        records=1,
        lag=Lag(),
        recovered=recovered,
    )
    assert verdict.equal
    assert any("proved equal" in line for line in verdict.lines())
    verdict = attrs.evolve(verdict, recovered=attrs.evolve(recovered, equal=False))
    assert not verdict.equal
    assert not verdict.as_json()["recovered"]["equal"]
    assert any("DIFFERENT" in line for line in verdict.lines())


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ended_early_nothing_is_left(number: signal.Signals, i2: Commands, tmp_path: Path) -> None:
    log = tmp_path / "log"
    demo = i2.start("demo", "--seconds", "60", log=log)
    i2.eventually("the workload runs", i2.said(log, "captured"), 60)
    processes = i2.children(demo.pid)
    assert len(processes) == 3
    assert i2.finish(demo, number)[0] == 130
    assert all(i2.ended(pid, 0.1) for pid in processes)
    assert _left(tmp_path / "home") == []
    said = log.read_text()
    assert "Traceback" not in said
    assert "goes on from here" not in said, "there is no next run of a demo"


@pytest.mark.slow
def test_killed_its_processes_end(i2: Commands, tmp_path: Path) -> None:
    log = tmp_path / "log"
    demo = i2.start("demo", "--seconds", "60", log=log)
    i2.eventually("the workload runs", i2.said(log, "captured"), 60)
    processes = i2.children(demo.pid)
    demo.kill()
    assert all(i2.ended(pid) for pid in processes)


@pytest.mark.slow
def test_the_death_of_a_node_is_reported(i2: Commands, tmp_path: Path) -> None:
    log = tmp_path / "log"
    demo = i2.start("demo", "--seconds", "60", log=log)
    i2.eventually("the workload runs", i2.said(log, "captured"), 60)
    backup = i2.children(demo.pid)[0]
    os.kill(backup, signal.SIGKILL)
    demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "demo-backup" in log.read_text()
    assert _left(tmp_path / "home") == []
