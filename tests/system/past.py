"""A rule with a history on two real nodes, and the commands of its backup node."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from i2core.testing.trees import compare_trees

from .test_system_daemon import Site

if TYPE_CHECKING:
    from .commands import Commands

RULE = 'cdp = {}\nbrake = { share = 1.0 }\norphans = { action = "delete" }'


def copy_tree(source: Path, to: Path) -> None:
    """Copies a tree with all attributes."""
    subprocess.run(["cp", "-a", str(source), str(to)], check=True)  # noqa: S603, S607


class Past:
    """A rule with a history, and the commands of its backup node."""

    def __init__(self, site: Site, i2: Commands, source: Path) -> None:
        self.site, self.i2, self.source = site, i2, source
        self.backup: subprocess.Popen[str]
        self.work: subprocess.Popen[str]

    def begin(self, *, more: str = "") -> None:
        """Starts both nodes, and waits until the history has begun. `more`: for the config of the backup node."""
        self.site.prepare(self.site.rule("data1", self.source, RULE))
        if more:
            config = self.site.config("backup")
            config.write_text(config.read_text().replace("[backup]\n", f"[backup]\n{more}\n"))
        self.backup, self.work = self.site.start("backup"), self.site.start("work")
        self.site.replicating("data1")
        self.settle()

    def kill_backup(self) -> None:
        """Kills the backup node, and starts it again."""
        self.backup.kill()
        self.backup.wait()
        self.backup = self.site.start("backup")

    def ask(self, *arguments: str | Path, code: int = 0) -> Any:
        """The JSON answer of a command."""
        done = self.run(*arguments, "--json", code=code)
        return json.loads(done.stdout)

    def run(self, *arguments: str | Path, code: int = 0, node: str = "backup") -> subprocess.CompletedProcess[str]:
        """Runs `i2` on a node."""
        done = self.i2.run(*arguments, "--config", self.site.config(node))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def settle(self) -> int:
        """Waits until all changes are in the history; the number of the last one."""
        fence = self.source / "fence"
        fence.write_text(f"{time.monotonic()}")

        def arrived() -> bool:
            if compare_trees(self.source, self.site.replica("data1")):
                return False
            work = self.site.status("work", "data1")
            return bool(work["seq"] == work["durable_seq"])

        self.i2.eventually("all changes arrived", arrived, 60)
        found: int = self.ask("cdp", "range", "data1")["last"]["seq"]
        return found
