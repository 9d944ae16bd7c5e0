"""Recoveries between two nodes: asked for on the work node, or ordered by the backup node."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from i2core.node.control.client import control_client
from i2core.testing.trees import compare_trees

from .test_system_daemon import Site

if TYPE_CHECKING:
    from .commands import Commands

RULE = 'cdp = {}\nbrake = { share = 1.0 }\norphans = { action = "delete" }'


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


class Pair:
    """A work node and a backup node that run, and their commands."""

    def __init__(self, site: Site, i2: Commands, source: Path) -> None:
        self.site, self.i2, self.source = site, i2, source
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def configure(self, *, recover: str = '"data1"', into: Path | None = None, more: str = RULE) -> None:
        """Writes the configs, with a recovery port."""
        self.site.prepare(self.site.rule("data1", self.source, more))
        port = _free_port()
        backup, work = self.site.config("backup"), self.site.config("work")
        backup.write_text(
            backup.read_text().replace("[backup]\n", f"[backup]\nrecovery_port = {port}\n") + f"recover = [{recover}]\n"
        )
        added = f"recovery_port = {port}\n" + (f'recover_into = ["{into}"]\n' if into else "")
        work.write_text(work.read_text().replace("[[work.peer]]\n", "[[work.peer]]\n" + added))

    def start(self, *nodes: str) -> None:
        """Starts daemons."""
        for name in nodes or ("backup", "work"):
            self.processes[name] = self.site.start(name)

    def kill(self, node: str) -> None:
        """Kills a daemon."""
        self.processes[node].kill()
        self.processes[node].wait()

    def run(self, node: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Runs `i2` on a node."""
        done = self.i2.run(*arguments, "--config", self.site.config(node))
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def ask(self, node: str, *arguments: str | Path, code: int = 0) -> Any:
        """The JSON answer of a command on a node."""
        return json.loads(self.run(node, *arguments, "--json", code=code).stdout)

    def settle(self) -> str:
        """Waits until all changes are in the history; the number of the last one."""

        def arrived() -> bool:
            work = self.site.status("work", "data1")
            return work["seq"] == work["durable_seq"] and not compare_trees(self.source, self.site.replica("data1"))

        self.i2.eventually("all changes arrived", arrived, 60)
        return str(self.ask("backup", "cdp", "range", "data1")["last"]["seq"])


@pytest.fixture
def pair(i2: Commands, tmp_path: Path, source: Path) -> Iterator[Pair]:
    yield Pair(Site(i2, tmp_path), i2, source)


def _copy(source: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(to)], check=True)  # noqa: S603, S607


def _begin(pair: Pair, **options: Any) -> None:
    pair.configure(**options)
    pair.start()
    pair.site.replicating("data1")


def test_a_work_node_recovers_its_own_rule(pair: Pair, tmp_path: Path) -> None:
    """To another directory, while the rule runs; then one deleted file in its place, with the rule stopped."""
    _begin(pair)
    wanted = tmp_path / "wanted"
    seq = pair.settle()
    _copy(pair.source, wanted)
    shutil.rmtree(pair.source / "d1")
    (pair.source / "big").write_bytes(b"spoiled")
    pair.settle()

    to = tmp_path / "to"
    plan = pair.ask("work", "recover", "data1", "--to", to, "--at-seq", seq, "--dry-run", code=3)
    assert plan["totals"]["create"]["count"] == len(list(wanted.rglob("*")))
    assert not to.exists()
    done = pair.ask("work", "recover", "data1", "--to", to, "--at-seq", seq)
    assert (done["equal"], done["proved"], done["seq"]) == (True, True, int(seq))
    assert compare_trees(wanted, to) == []
    plan = pair.ask("work", "recover", "data1", "--to", to, "--at-seq", seq, "--strict", "--dry-run")
    assert plan["equal"]
    assert pair.ask("work", "recover", "data1", "--to", to, "--at-seq", seq, "--yes")["sent_files"] == 0
    tried = pair.ask("backup", "task", "list")
    assert tried == []

    refused = pair.run("work", "recover", "data1", "d1", "--at-seq", seq, "--yes", code=2)
    assert "which is running" in refused.stderr and "--stop-rule" in refused.stderr
    assert not (pair.source / "d1").exists()
    done = pair.ask("work", "recover", "data1", "d1", "--at-seq", seq, "--yes", "--stop-rule")
    assert done["equal"] and done["proved"]
    assert compare_trees(wanted / "d1", pair.source / "d1") == []
    assert (pair.source / "big").read_bytes() == b"spoiled"
    pair.site.replicating("data1")
    pair.settle()
    log = (pair.site.place / "work.state" / "log" / "node.jsonl").read_text()
    assert "stopped for recovery task" in log and "started again after recovery task" in log


def test_what_the_backup_node_does_not_allow_is_refused(pair: Pair, tmp_path: Path) -> None:
    _begin(pair, recover='"other"')
    for name in ("data1", "unknown"):
        refused = pair.run("work", "recover", name, "--to", tmp_path / "to", code=2)
        assert "3602" in refused.stderr and "may not recover it" in refused.stderr
    assert not (tmp_path / "to").exists()


def test_the_backup_node_recovers_to_a_work_node(pair: Pair, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    _begin(pair, into=into)
    seq = pair.settle()
    wanted = tmp_path / "wanted"
    _copy(pair.source, wanted)
    shutil.rmtree(pair.source / "d1")
    pair.settle()
    plan = pair.ask("backup", "recover", "data1", "--to", f"work:{into}/a", "--at-seq", seq, "--dry-run", code=3)
    assert plan["totals"]["create"]["count"] == len(list(wanted.rglob("*")))
    assert not (into / "a").exists()
    done = pair.ask("backup", "recover", "data1", "--to", f"work:{into}/a", "--at-seq", seq)
    assert (done["equal"], done["proved"], done["to"]) == (True, True, f"work:{into}/a")
    assert compare_trees(wanted, into / "a") == []

    (tmp_path / "out").mkdir()
    (into / "way").symlink_to(tmp_path / "out")
    for place in (tmp_path / "out", into / "way", pair.source, tmp_path / "work.state"):
        refused = pair.run("backup", "recover", "data1", "--to", f"work:{place}/x", "--at-seq", seq, code=2)
        assert "recover_into" in refused.stderr, refused.stderr
    assert not list((tmp_path / "out").iterdir())
    refused = pair.run("backup", "recover", "data1", "--to", "stranger:/x", code=2)
    assert "no work node of this name" in refused.stderr


@pytest.mark.slow
def test_a_recovery_survives_kills_of_either_node(pair: Pair, tmp_path: Path) -> None:
    """With its rule stopped: both daemons are killed in the middle; it ends by itself, and the rule runs again."""
    _begin(pair, more=RULE + '\n[[rule.bandwidth]]\nlimit = "40Mbps"')
    (pair.source / "huge").write_bytes(b"".join(bytes([each]) * (1 << 20) for each in range(60)))
    seq = pair.settle()
    wanted = tmp_path / "wanted"
    _copy(pair.source, wanted)
    shutil.rmtree(pair.source / "d2")
    (pair.source / "huge").unlink()
    pair.settle()
    command = ["recover", "data1", "--at-seq", seq, "--yes", "--stop-rule"]
    waiting = pair.i2.start(*command, "--config", pair.site.config("work"), log=tmp_path / "command.log")

    def task() -> dict[str, Any]:
        with control_client(pair.site.place / "work.state") as daemon:
            return next(iter(daemon.tasks()), {"progress": {}, "state": "running"})

    pair.i2.eventually("it has begun", lambda: task()["progress"].get("phase") == "recovering")
    status = pair.site.status("work", "data1")
    assert (status["state"], status["code"]) == ("stopped", 3670)
    refused = pair.run("work", "rule", "start", "data1", code=2)
    assert "3670" in refused.stderr
    pair.kill("work")
    waiting.wait()
    pair.start("work")
    assert pair.site.status("work", "data1")["state"] == "stopped"
    pair.i2.eventually("it goes on", lambda: task()["progress"].get("phase") == "recovering")
    pair.kill("backup")
    pair.i2.eventually("it waits", lambda: task()["progress"].get("phase") == "waiting")
    pair.start("backup")
    pair.i2.eventually("it ends", lambda: task()["state"] != "running", 90)
    assert task()["state"] == "done", task()
    assert task()["result"]["equal"] and task()["result"]["proved"]
    assert compare_trees(wanted, pair.source) == []
    pair.site.replicating("data1")
    pair.settle()


def test_the_server_is_gone(pair: Pair, tmp_path: Path) -> None:
    """As docs/recovery.md has it: a new server with the old name gets its data back, then its rule goes on."""
    pair.configure(more=RULE)
    pair.start()
    pair.site.replicating("data1")
    pair.settle()
    wanted = tmp_path / "wanted"
    _copy(pair.source, wanted)
    pair.kill("work")
    shutil.rmtree(tmp_path / "work.state")
    shutil.rmtree(pair.source)
    pair.source.mkdir()
    config = pair.site.config("work")
    config.write_text(config.read_text().replace("[[rule]]\n", "[[rule]]\nautostart = false\n"))
    fresh = json.loads(pair.run("work", "node", "id", "--json").stdout)["fingerprint"]
    backup = pair.site.config("backup")
    backup.write_text(backup.read_text().replace(pair.site.fingerprints["work"], fresh))
    pair.kill("backup")
    pair.start()
    assert pair.site.status("work", "data1")["state"] == "stopped"
    done = pair.ask("work", "recover", "data1", "--yes")
    assert done["equal"] and done["proved"]
    assert compare_trees(wanted, pair.source) == []
    pair.run("work", "rule", "start", "data1")
    pair.site.replicating("data1")
    (pair.source / "new").write_text("new")
    pair.settle()
    assert compare_trees(pair.source, pair.site.replica("data1")) == []


def test_rights_to_recover_apply_at_once_and_to_no_other_rule(pair: Pair, tmp_path: Path) -> None:
    _begin(pair, recover='"other/data1"')
    refused = pair.run("work", "recover", "data1", "--to", tmp_path / "to", code=2)
    assert "3602" in refused.stderr
    config = pair.site.config("backup")
    config.write_text(config.read_text().replace("other/data1", "work/data1"))
    pair.processes["backup"].send_signal(signal.SIGHUP)
    pair.i2.eventually("it is applied", pair.i2.said(pair.site.log("backup"), "backup.peer.recover"))
    assert pair.ask("work", "recover", "data1", "--to", tmp_path / "to")["proved"]


@pytest.mark.slow
def test_a_rule_runs_again_when_its_recovery_is_cancelled_or_refused(pair: Pair) -> None:
    _begin(pair, more=RULE + '\n[[rule.bandwidth]]\nlimit = "2Mbps"')
    log = pair.site.log("work")
    refused = pair.run("work", "recover", "data1", "missing", "--yes", "--stop-rule", code=2)
    assert "is not there at that moment" in refused.stderr
    pair.i2.eventually("it runs again", lambda: log.read_text().count("started again after recovery task 1") == 1)
    pair.run("work", "recover", "data1", "--at", "2001-01-01T00:00:00Z", "--yes", "--stop-rule", code=2)
    assert "recovery task 2" not in log.read_text()  # what the backup node does not have stops nothing
    pair.i2.start("recover", "data1", "--strict", "--yes", "--stop-rule", "--config", pair.site.config("work"), log=log)
    pair.i2.eventually("it is stopped", lambda: pair.site.status("work", "data1")["code"] == 3670)
    pair.run("work", "task", "cancel", "3")
    pair.i2.eventually("it runs again", lambda: "started again after recovery task 3" in log.read_text())
    pair.site.replicating("data1")
