"""Snapshots by commands: taken, listed, mounted, recovered, removed; by schedule as well."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.testing.trees import compare_trees

from .past import Past
from .test_system_daemon import Site, site
from .test_system_past import past

if TYPE_CHECKING:
    from .commands import Commands

__all__ = ["past", "site"]


def test_a_snapshot_is_taken_recovered_and_removed(past: Past, tmp_path: Path) -> None:
    (past.source / "file").write_text("before")
    past.settle()
    wanted = tmp_path / "wanted"
    subprocess.run(["cp", "-a", str(past.source), str(wanted)], check=True)  # noqa: S603, S607
    taken = past.ask("snapshot", "create", "data1", "--tag", "before the upgrade")
    assert (taken["number"], taken["store"], taken["state"]) == (1, "journal", "kept")
    assert taken["moment"] and not taken["mirroring"] and not taken["automatic"]
    (past.source / "file").write_text("after")
    past.settle()

    (listed,) = past.ask("snapshot", "list", "data1", "--space")
    assert listed == taken
    text = past.run("snapshot", "list", "data1", "--space").stdout
    assert "before the upgrade" in text and "journal" in text

    done = past.ask("recover", "data1", "--to", tmp_path / "back", "--snapshot", "1")
    assert done["equal"] and done["proved"] and done["snapshot"] == 1
    assert compare_trees(wanted, tmp_path / "back") == []
    assert "snapshot 1" in past.run("recover", "data1", "--to", tmp_path / "back", "--snapshot", "1", "--yes").stdout

    both = past.run("recover", "data1", "--to", tmp_path / "no", "--snapshot", "1", "--at", "now", code=2)
    assert "a moment and a snapshot are named" in both.stderr
    for refused in (
        ("recover", "data1", "--to", tmp_path / "no", "--snapshot", "2"),
        ("snapshot", "remove", "data1", "2"),
        ("snapshot", "create", "data2"),
    ):
        past.run(*refused, code=2)
    assert not (tmp_path / "no").exists()

    assert past.ask("snapshot", "remove", "data1", "1") == {"number": 1, "done": True}
    assert past.ask("snapshot", "remove", "data1", "1") == {"number": 1, "done": False}
    assert "no snapshots" in past.run("snapshot", "list", "data1").stdout


@pytest.mark.root
def test_one_that_is_mounted_is_not_removed(past: Past, tmp_path: Path) -> None:
    if not os.path.exists("/dev/fuse") or shutil.which("umount") is None:
        pytest.skip("needs /dev/fuse")
    (past.source / "file").write_text("before")
    past.settle()
    past.ask("snapshot", "create", "data1")
    (past.source / "file").write_text("after")
    past.settle()
    point = tmp_path / "mnt"
    point.mkdir()
    mounted = past.ask("mount", "data1", point, "--snapshot", "1")
    assert mounted["snapshot"] == 1
    try:
        assert (point / "file").read_text() == "before"
        refused = past.run("snapshot", "remove", "data1", "1", code=2)
        assert "error 3551" in refused.stderr
        assert past.ask("snapshot", "list", "data1")[0]["used"] == 1
    finally:
        subprocess.run(["umount", str(point)], check=True)  # noqa: S603, S607
    past.i2.eventually("it is free", lambda: not past.ask("snapshot", "list", "data1")[0]["used"], 30)
    assert past.ask("snapshot", "remove", "data1", "1")["done"]


@pytest.mark.slow
def test_the_schedule_takes_one(site: Site, i2: Commands, source: Path) -> None:
    rule = 'cdp = {}\nbrake = { share = 1.0 }\nsnapshot = { every = "5m", start = "2026-01-01T00:00" }'
    site.prepare(site.rule("data1", source, rule))
    site.start("backup")
    site.start("work")
    site.replicating("data1")
    past = Past(site, i2, source)
    past.i2.eventually("the schedule has taken one", lambda: past.ask("snapshot", "list", "data1") != [], 90)
    (taken,) = past.ask("snapshot", "list", "data1")
    assert taken["automatic"] and taken["state"] == "kept" and not taken["mirroring"]
