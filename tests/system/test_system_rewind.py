"""The replica is turned back in place (`i2 cdp rewind`): held until it is released, undone, killed in the middle."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.node.control.client import control_client
from i2core.testing.trees import compare_trees

from .past import Past, copy_tree
from .test_system_daemon import Site, site

if TYPE_CHECKING:
    from .commands import Commands

__all__ = ["site"]


@pytest.fixture
def past(site: Site, i2: Commands, source: Path) -> Past:
    past = Past(site, i2, source)
    past.begin()
    return past


def _accident(past: Past, tmp_path: Path) -> tuple[int, int, Path, Path]:
    """Much is changed: the moments before and after it, and copies of both."""
    before = past.settle()
    copy_tree(past.source, tmp_path / "before")
    source = past.source
    (source / "big").write_bytes(os.urandom(1_000_000))
    with open(source / "d1" / "deep" / "f1", "r+b") as file:
        file.write(b"encrypted")
    shutil.rmtree(source / "d3")
    (source / "d4").rename(source / "d5" / "moved")
    (source / "empty").unlink()
    (source / "empty").mkdir()
    (source / "empty" / "new").write_text("new")
    os.chmod(source / "nothing-in-it", 0o700)
    (source / "ransom note").write_text("pay")
    after = past.settle()
    copy_tree(source, tmp_path / "after")
    return before, after, tmp_path / "before", tmp_path / "after"


def _stop(past: Past) -> None:
    past.run("rule", "stop", "data1", node="work")
    past.i2.eventually("no session is open", lambda: past.site.status("backup", "data1")["state"] != "receiving")


def _replica(past: Past) -> Path:
    return past.site.replica("data1")


def test_the_replica_is_turned_back_and_held(past: Past, tmp_path: Path) -> None:
    before, after, was, became = _accident(past, tmp_path)
    refused = past.run("cdp", "rewind", "data1", "--to-seq", str(before), "--yes", code=2)
    assert "work is sending it" in refused.stderr
    _stop(past)
    refused = past.run("cdp", "rewind", "data1", "--to-seq", str(before), code=2)
    assert "objects of the replica would change" in refused.stderr
    plan = past.ask("cdp", "rewind", "data1", "--to-seq", str(before), "--dry-run", code=3)
    assert ("ransom note", "removed") in [(one["path"], one["what"]) for one in plan["changes"]]
    assert compare_trees(became, _replica(past)) == []

    done = past.ask("cdp", "rewind", "data1", "--to-seq", str(before), "--yes")
    assert done["equal"] and done["before_seq"] == after
    assert compare_trees(was, _replica(past)) == []
    status = past.site.status("backup", "data1")
    assert (status["state"], status["code"], status["held"]) == ("held", 3660, True)

    # The work node would mirror over it: it is refused, and says why, also after a restart of the backup node.
    past.kill_backup()
    assert past.site.status("backup", "data1")["code"] == 3660
    past.run("rule", "start", "data1", node="work")
    past.i2.eventually("the rule is refused", lambda: past.site.status("work", "data1")["code"] == 3660)
    assert compare_trees(was, _replica(past)) == []

    # It can be undone.
    undone = past.ask("cdp", "rewind", "data1", "--to-seq", str(after), "--yes")
    assert undone["equal"]
    assert compare_trees(became, _replica(past)) == []
    past.ask("cdp", "rewind", "data1", "--to-seq", str(before), "--yes")

    # Released, the rule compares everything, and every moment of before can still be had.
    past.run("rule", "release", "data1")
    past.run("rule", "start", "data1", node="work")
    past.settle()
    assert compare_trees(past.source, _replica(past)) == []
    assert "nothing was held" in past.run("rule", "release", "data1").stdout
    for seq, wanted in ((before, was), (after, became), (undone["before_seq"], was)):
        assert past.ask("recover", "data1", "--to", tmp_path / f"at{seq}", "--at-seq", str(seq))["equal"]
        assert compare_trees(wanted, tmp_path / f"at{seq}") == []
    assert past.ask("cdp", "verify", "data1")["equal"]


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_in_the_middle_of_a_rewind(past: Past, tmp_path: Path, seed: int) -> None:
    """It goes on by itself when the node is started again."""
    dice = random.Random(seed)  # noqa: S311
    before, _, was, _ = _accident(past, tmp_path)
    _stop(past)
    with control_client(past.site.place / "backup.state") as node:
        node.begin_rewind("data1", {"at_seq": before})
    time.sleep(dice.random() * 0.15)
    for _ in range(dice.randrange(1, 3)):
        past.kill_backup()
    with control_client(past.site.place / "backup.state") as node:
        for task in node.tasks():
            node.task(task["ident"], wait_s=30)
    if past.site.status("backup", "data1").get("code") != 3660:
        past.run("cdp", "rewind", "data1", "--to-seq", str(before), "--yes")  # killed before it was noted
    assert compare_trees(was, _replica(past)) == []
    past.run("rule", "start", "data1", node="work")
    past.i2.eventually("the rule is refused", lambda: past.site.status("work", "data1")["code"] == 3660)
    assert compare_trees(was, _replica(past)) == []
    past.run("rule", "release", "data1")
    past.run("rule", "start", "data1", node="work")
    past.settle()
