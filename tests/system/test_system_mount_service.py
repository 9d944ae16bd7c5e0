"""A moment is mounted by the command where the daemon has mounts of its own, as a hardened service has."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.testing.trees import compare_trees

from .commands import I2
from .past import Past, copy_tree
from .test_system_daemon import Site, site

if TYPE_CHECKING:
    from .commands import Commands

__all__ = ["site"]
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no /dev/fuse here"),
]


def test_the_command_mounts_for_a_daemon_with_mounts_of_its_own(
    site: Site, i2: Commands, source: Path, tmp_path: Path
) -> None:
    past = Past(site, i2, source)
    past.begin()
    seq = past.settle()
    copy_tree(source, tmp_path / "wanted")
    (source / "later").write_text("later")
    past.settle()
    past.backup.terminate()
    past.backup.wait()
    log = site.log("backup").open("a")
    command = ["unshare", "--mount", *I2, "node", "run", "--config", str(site.config("backup"))]
    daemon = subprocess.Popen(command, env=i2.environment, stderr=log)  # noqa: S603
    point = tmp_path / "point"
    point.mkdir()
    try:
        i2.eventually("the daemon answers", lambda: _answers(past))
        found = past.ask("mount", "data1", point, "--at-seq", str(seq))
        assert os.path.ismount(point)
        assert [each for each in compare_trees(tmp_path / "wanted", point) if "hard" not in each] == []
        assert past.ask("task", "show", str(found["task"]))["state"] == "running"
        subprocess.run(["umount", str(point)], check=True)  # noqa: S603, S607
        assert past.ask("task", "show", str(found["task"]), "--wait")["state"] == "done"
        refused = past.run("mount", "data1", point, "--writable", code=1)
        assert "cannot show one that can be written" in refused.stderr
        inside = site.replica("data1") / "nothing-in-it"
        refused = past.run("mount", "data1", inside, code=2)
        assert "which is replicated" in refused.stderr
        assert not os.path.ismount(inside)
        assert not list((tmp_path / "backup.state").glob("mount-*"))
    finally:
        daemon.terminate()
        daemon.wait()
        log.close()
        subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)  # noqa: S603, S607


def _answers(past: Past) -> bool:
    return past.i2.run("task", "list", "--config", past.site.config("backup")).returncode == 0
