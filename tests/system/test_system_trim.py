"""Old moments are given up by hand (`i2 cdp trim`): what is freed, what refuses, and a kill in the middle."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.node.control.client import control_client

from .past import Past
from .test_system_daemon import Site, site

if TYPE_CHECKING:
    from .commands import Commands

__all__ = ["site"]
DELAYS_S = 0.2


@pytest.fixture
def past(site: Site, i2: Commands, source: Path) -> Past:
    return Past(site, i2, source)


def _versions(past: Past, count: int) -> list[int]:
    """The moments of so many versions of a file; the content of each is its number."""
    found = []
    for number in range(count):
        (past.source / "versions").write_bytes(b"%d" % number + os.urandom(200_000))
        found.append(past.settle())
    return found


def _version(past: Past, to: Path, seq: int) -> int:
    past.run("recover", "data1", "versions", "--to", to, "--at-seq", str(seq), "--extra", "delete", "--yes")
    return int((to / "versions").read_bytes()[:1])


def test_moments_are_given_up_by_hand(past: Past, tmp_path: Path) -> None:
    past.begin()
    seqs = _versions(past, 4)
    plan = past.ask("cdp", "trim", "data1", "--before", "now", "--dry-run")
    assert plan["before"]["seq"] == seqs[-1] and plan["moments"] == seqs[-1]
    refused = past.run("cdp", "trim", "data1", "--before", "now", code=2)
    assert f"{seqs[-1]} moments would be given up" in refused.stderr
    log = past.ask("cdp", "log", "data1", "versions", "--limit", "1000")["records"]
    second = next(record for record in log if record["seq"] <= seqs[1])["time"]
    span = past.ask("cdp", "range", "data1")
    assert span["floor"]["seq"] == 0 and span["kept"]["objective_met"]
    assert past.site.status("backup", "data1")["history"]["objective_met"] is True
    done = past.ask("cdp", "trim", "data1", "--before", second, "--yes")
    assert done["moments"] > 0
    history = past.site.status("backup", "data1")["history"]
    assert history["objective_met"] is False
    assert history["promised_from"] < history["kept_from"]
    assert "history objective   not met" in past.run("cdp", "range", "data1").stdout
    assert "not met" in past.run("rule", "status", "data1").stdout
    floor = past.ask("cdp", "range", "data1")["floor"]
    assert seqs[0] < floor["seq"] <= seqs[1]
    assert [_version(past, tmp_path / "to", seq) for seq in seqs[1:]] == [1, 2, 3]
    past.run("recover", "data1", "versions", "--to", tmp_path / "no", "--at-seq", str(seqs[0]), code=2)
    assert "nothing is kept before" in past.run("cdp", "trim", "data1", "--before", second).stdout
    assert past.ask("cdp", "trim", "data1", "--before", "now", "--yes")["freed_bytes"] > 100_000
    assert _version(past, tmp_path / "to", past.settle()) == 3
    assert past.ask("cdp", "verify", "data1")["equal"]


def test_a_locked_moment_is_not_given_up_by_any_command(past: Past) -> None:
    past.begin(more='cdp = { lock = "30d" }')
    _versions(past, 2)
    for options in (["--yes"], ["--dry-run"], []):
        refused = past.run("cdp", "trim", "data1", "--before", "now", *options, code=2)
        assert "cdp.lock holds every moment from" in refused.stderr
    assert past.ask("cdp", "range", "data1")["floor"]["seq"] == 0


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no /dev/fuse here")
def test_a_moment_that_is_mounted_is_not_given_up(past: Past, tmp_path: Path) -> None:
    past.begin()
    first, _ = _versions(past, 2)
    (tmp_path / "point").mkdir()
    mounted = past.ask("mount", "data1", tmp_path / "point", "--at-seq", str(first))
    refused = past.run("cdp", "trim", "data1", "--before", "now", "--yes", code=2)
    assert f"the state after change {first} is being read" in refused.stderr
    past.run("task", "cancel", str(mounted["task"]))
    past.run("task", "show", str(mounted["task"]), "--wait", code=1)
    past.run("cdp", "trim", "data1", "--before", "now", "--yes")


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_in_the_middle_of_a_trim(past: Past, tmp_path: Path, seed: int) -> None:
    """Whatever it was doing: what is promised is there, and the rest can be given up."""
    dice = random.Random(seed)  # noqa: S311
    past.begin()
    seqs = _versions(past, 4)
    with control_client(past.site.place / "backup.state") as node:
        node.trim("data1", seqs[2])
    time.sleep(dice.random() * DELAYS_S)
    past.backup.send_signal(signal.SIGKILL)
    past.kill_backup()
    span = past.ask("cdp", "range", "data1")
    assert span["floor"]["seq"] in (0, seqs[2])
    assert past.ask("cdp", "verify", "data1")["equal"]
    there = [number for number, seq in enumerate(seqs) if seq >= span["floor"]["seq"]]
    assert [_version(past, tmp_path / "to", seqs[number]) for number in there] == there
    past.run("cdp", "trim", "data1", "--before", "now", "--yes")
    past.i2.eventually("the rule goes on", lambda: past.site.status("work", "data1")["state"] == "replicating")
    assert _version(past, tmp_path / "to", past.settle()) == 3
