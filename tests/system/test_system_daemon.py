"""Two daemons over TLS on the loopback address, set up as docs tell: ids first, then configs, then rules."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from i2core.api import Code
from i2core.node.control.client import control_client
from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from .commands import Commands

UP = "is up"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port: int = bound.getsockname()[1]
        return port


@attrs.define
class Site:
    """A work node and a backup node, not started yet."""

    i2: Commands
    place: Path
    ports: tuple[int, int] = attrs.field(factory=lambda: (_free_port(), _free_port()))
    fingerprints: dict[str, str] = attrs.field(factory=dict)

    def prepare(self, *rules: str, trusted: str | None = None) -> None:
        """Asks both for their ids, then writes their whole configs. `trusted`: what the backup node pins instead of
        the work node's fingerprint."""
        for name in ("work", "backup"):
            self._write(name, "")
            done = self.i2.run("node", "id", "--json", "--config", self.config(name))
            self.fingerprints[name] = json.loads(done.stdout)["fingerprint"]
        mirror, replication = self.ports
        (self.place / "replicas").mkdir()
        ports = f"mirror_port = {mirror}\nreplication_port = {replication}\n"
        self._write(
            "backup",
            f'[backup]\nlisten = "127.0.0.1"\nallow_roots = ["{self.place}/replicas"]\n{ports}'
            f'[[backup.peer]]\nname = "work"\nfingerprint = "{trusted or self.fingerprints["work"]}"\n',
        )
        self._write(
            "work",
            f'[work]\n[[work.peer]]\nname = "backup"\naddress = "127.0.0.1"\n{ports}'
            f'fingerprint = "{self.fingerprints["backup"]}"\n' + "".join(rules),
        )

    def rule(self, name: str, source: Path, more: str = "") -> str:
        """A ``[[rule]]`` table."""
        return (
            f'[[rule]]\nname = "{name}"\nbackup = "backup"\n'
            f'paths = [{{ source = "{source}", target = "{self.replica(name)}" }}]\n{more}\n'
        )

    def replica(self, name: str) -> Path:
        """Where the rule's replica is."""
        return self.place / "replicas" / name

    def config(self, name: str) -> Path:
        """That node's config file."""
        return self.place / f"{name}.toml"

    def log(self, name: str) -> Path:
        """That node's stderr."""
        return self.place / f"{name}.log"

    def start(self, name: str) -> subprocess.Popen[str]:
        """Starts that node's daemon and waits until it is up."""
        before = self.log(name).read_text().count(UP) if self.log(name).exists() else 0
        process = self.i2.start("node", "run", "--config", self.config(name), log=self.log(name))
        self.i2.eventually(
            f"{name} is up",
            lambda: self.log(name).read_text().count(UP) > before or process.poll() is not None,
        )
        assert process.poll() is None, self.log(name).read_text()
        return process

    def status(self, node: str, rule: str) -> dict[str, Any]:
        """The rule's entry of ``i2 rule status --json``; empty when the node does not list it."""
        with control_client(self.place / f"{node}.state") as daemon:
            return next((entry for entry in daemon.rules() if entry["name"] == rule), {})

    def replicating(self, rule: str) -> None:
        """Waits until the rule's mirror is done."""
        self.i2.eventually(f"{rule} replicates", lambda: self.status("work", rule)["state"] == "replicating")

    def _write(self, name: str, text: str) -> None:
        head = f'[node]\nname = "{name}"\nstate_dir = "{self.place}/{name}.state"\n'
        self.config(name).write_text(head + text)


@pytest.fixture
def site(i2: Commands, tmp_path: Path) -> Iterator[Site]:
    yield Site(i2, tmp_path)


def test_a_rule_over_tls_from_start_to_end(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    backup, work = site.start("backup"), site.start("work")
    site.replicating("data1")
    (source / "d1" / "deep" / "f1").write_text("changed")
    (source / "d2").rename(source / "moved")
    i2.eventually("the replica is equal", lambda: compare_trees(source, site.replica("data1")) == [])
    i2.eventually(
        "both nodes agree",
        lambda: site.status("work", "data1")["durable_seq"] == site.status("backup", "data1")["seq"] > 0,
    )
    sent, received = site.status("work", "data1"), site.status("backup", "data1")
    assert (sent["role"], received["role"], received["peer"]) == ("work", "backup", "work")
    assert sent["capture"] in ("fanotify", "inotify")
    assert [i2.finish(process, signal.SIGTERM)[0] for process in (work, backup)] == [0, 0]
    for name in ("work", "backup"):
        assert "Traceback" not in site.log(name).read_text()
        assert (site.place / f"{name}.state" / "log" / "node.jsonl").read_text()
        assert not (site.place / f"{name}.state" / "control.sock").exists()


def test_stop_and_start_by_hand(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    site.start("backup")
    site.start("work")
    site.replicating("data1")
    assert i2.run("rule", "stop", "data1", "--config", site.config("work")).returncode == 0
    assert site.status("work", "data1")["state"] == "stopped"
    (source / "while stopped").write_text("x")
    assert i2.run("rule", "start", "data1", "--config", site.config("work")).returncode == 0
    i2.eventually("it came over", (site.replica("data1") / "while stopped").exists)


def test_a_replica_that_somebody_changed_is_repaired_by_a_compare(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    site.start("backup")
    site.start("work")
    site.replicating("data1")
    victim = next(path for path in sorted(site.replica("data1").rglob("*")) if path.is_file())
    victim.unlink()
    assert i2.run("rule", "start", "data1", "--config", site.config("work")).returncode == 0
    assert not victim.exists(), "it runs, and nothing was compared"
    assert i2.run("rule", "start", "data1", "--compare", "--config", site.config("work")).returncode == 0
    i2.eventually("it is there again", victim.exists)


def test_a_broken_objective_and_its_end_are_reported(site: Site, i2: Commands, source: Path) -> None:
    """A follower of the work node's log misses none of it, also across a restart."""
    site.prepare(site.rule("data1", source, 'rpo = "1s"'))
    backup, work = site.start("backup"), site.start("work")
    site.replicating("data1")
    i2.eventually("the objective holds", lambda: not site.status("work", "data1")["rpo_broken"])
    with control_client(site.place / "work.state") as daemon:
        cursor = daemon.events(limit=1)["newest"]
    backup.kill()
    i2.eventually("the link is lost", lambda: site.status("work", "data1")["state"] != "replicating")
    (source / "while away").write_text("x")
    i2.eventually("it is broken", lambda: bool(site.status("work", "data1")["rpo_broken"]))
    status = site.status("work", "data1")
    assert (status["rpo_seconds"], status["lag_seconds"] > 1, status["rpo_actual_seconds"] > 1) == (1.0, True, True)
    assert status["next_step_zh"]
    site.start("backup")
    i2.eventually("it holds again", lambda: not site.status("work", "data1")["rpo_broken"])
    assert (site.replica("data1") / "while away").exists()
    assert i2.finish(work, signal.SIGTERM)[0] == 0
    site.start("work")
    with control_client(site.place / "work.state") as daemon:
        page = daemon.events(cursor)
    told = [event["code"] for event in page["events"] if event["rule"] == "data1" and event["code"]]
    assert told.index(Code.NETWORK) < told.index(Code.RPO_BROKEN) < told.index(Code.RPO_HOLDS) < len(told) - 1
    assert told[-1] == Code.RULE_RESTARTED
    assert not page["lost"]
    kept = json.loads(i2.run("node", "log", "--json", "--after", str(cursor), "--config", site.config("work")).stdout)
    assert kept[: len(page["events"])] == page["events"]


def test_one_rule_that_fails_leaves_the_other_running(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("good", source), site.rule("late", site.place / "late", "autostart = false"))
    # Its source is removed after the config was checked, and before the rule starts.
    (site.place / "late").mkdir()
    site.start("backup")
    site.start("work")
    (site.place / "late").rmdir()
    site.replicating("good")
    assert i2.run("rule", "start", "late", "--config", site.config("work")).returncode == 0
    i2.eventually("it stopped", lambda: site.status("work", "late")["code"] == 3607)
    failed = site.status("work", "late")
    assert failed["state"] == "stopped"
    assert failed["object"] == str(site.place / "late")
    assert site.status("work", "good")["state"] == "replicating"
    (site.place / "late").mkdir()
    (site.place / "late" / "file").write_text("x")
    assert i2.run("rule", "start", "late", "--config", site.config("work")).returncode == 0
    i2.eventually("it came over", (site.replica("late") / "file").exists)


def test_a_backup_node_that_comes_later_and_goes_and_comes_back(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    site.start("work")
    backup = site.start("backup")
    site.replicating("data1")
    backup.kill()
    backup.wait()
    i2.eventually("the loss is noticed", lambda: site.status("work", "data1")["state"] in ("abnormal", "invalid"))
    (source / "while it was away").write_text("x")
    site.start("backup")
    i2.eventually("the replica is equal", lambda: compare_trees(source, site.replica("data1")) == [], 60)
    site.replicating("data1")


def test_a_work_node_killed_and_started_again(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source, 'orphans = { action = "delete" }'))
    site.start("backup")
    work = site.start("work")
    site.replicating("data1")
    work.kill()
    work.wait()
    (source / "while it was dead").write_text("x")
    (source / "d3" / "deep" / "f3").unlink()
    site.start("work")
    site.replicating("data1")
    i2.eventually("the replica is equal", lambda: compare_trees(source, site.replica("data1")) == [], 60)


def test_an_unpinned_work_node_writes_nothing(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source), trusted="sha256:" + "0" * 64)
    site.start("backup")
    site.start("work")
    i2.eventually("it is told", lambda: bool(site.status("work", "data1")["code"]))
    assert not site.replica("data1").exists()


def test_a_target_outside_of_the_allowed_roots_is_refused(site: Site, i2: Commands, source: Path) -> None:
    rule = site.rule("data1", source).replace("/replicas/", "/elsewhere/")
    site.prepare(rule)
    site.start("backup")
    site.start("work")
    i2.eventually("it is refused", lambda: site.status("work", "data1")["code"] == 3571)
    assert not (site.place / "elsewhere").exists()


def test_a_held_mass_delete_is_released_at_the_backup_node(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source, 'brake = { share = 0.3, window = "60s", least = 20 }'))
    site.start("backup")
    site.start("work")
    site.replicating("data1")
    for number in range(5):
        directory = source / f"d{number}"
        for path in directory.rglob("f*"):
            path.unlink()
    i2.eventually("it is held", lambda: site.status("backup", "data1").get("held") is True)
    i2.eventually("the work node knows", lambda: site.status("work", "data1")["held"] is True)
    assert compare_trees(source, site.replica("data1")) != []
    wrong = i2.run("rule", "release", "data1", "--config", site.config("work"))
    assert wrong.returncode == 2
    assert "backup" in wrong.stderr
    assert i2.run("rule", "release", "data1", "--config", site.config("backup")).returncode == 0
    i2.eventually("the replica is equal", lambda: compare_trees(source, site.replica("data1")) == [])
    assert site.status("backup", "data1")["held"] is False


def test_a_second_daemon_on_the_same_state_is_refused(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    work = site.start("work")
    again = i2.run("node", "run", "--config", site.config("work"))
    assert again.returncode == 2
    assert str(work.pid) in again.stderr
    assert site.status("work", "data1"), "the first one still answers"


def test_a_port_in_use_is_refused(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    with socket.create_server(("127.0.0.1", site.ports[0])):
        done = i2.run("node", "run", "--config", site.config("backup"))
    assert done.returncode == 2
    assert str(site.ports[0]) in done.stderr
    assert "Traceback" not in done.stderr


def test_replicate_to_a_node(site: Site, i2: Commands, source: Path) -> None:
    site.prepare()
    site.start("backup")
    destination = f"backup:{site.replica('direct')}"
    done = i2.run("replicate", source, destination, "--once", "--json", "--config", site.config("work"))
    assert done.returncode == 0, done.stderr
    assert compare_trees(source, site.replica("direct")) == []
    unknown = i2.run("replicate", source, "nobody:/x", "--once", "--config", site.config("work"))
    assert unknown.returncode == 2
    assert "backup" in unknown.stderr


def test_an_edited_limit_counts_while_the_node_runs(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    site.start("backup")
    site.start("work")
    site.replicating("data1")
    before = site.config("work").read_text()
    assert site.status("work", "data1")["bandwidth_bps"] is None
    site.config("work").write_text(before + '[[rule.bandwidth]]\nlimit = "400kbps"\n')
    i2.eventually("the limit is in force", lambda: site.status("work", "data1")["bandwidth_bps"] == 400_000)
    site.config("work").write_text(before + '[[rule.bandwidth]]\nlimit = "0"\n')
    i2.eventually("it is stopped", lambda: site.status("work", "data1")["reason"] == "bandwidth")
    stopped = site.status("work", "data1")
    assert (stopped["state"], stopped["bandwidth_bps"], stopped["code"]) == ("stopped", 0, 3613)
    (source / "while stopped").write_text("x")
    site.config("work").write_text(before + '[[rule.bandwidth]]\nlimit = "fast"\n')
    i2.eventually("the mistake is told", i2.said(site.log("work"), "'fast' is not a rate"))
    assert site.status("work", "data1")["reason"] == "bandwidth"
    site.config("work").write_text(before)
    site.replicating("data1")
    i2.eventually("the replica is equal", lambda: compare_trees(source, site.replica("data1")) == [])


def test_peers_are_listed(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    (peer,) = json.loads(i2.run("node", "peers", "--json", "--config", site.config("work")).stdout)
    assert (peer["name"], peer["role"], peer["fingerprint"]) == ("backup", "backup", site.fingerprints["backup"])
    assert "work" in i2.run("node", "peers", "--config", site.config("backup")).stdout


def test_doctor_on_a_config(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    done = i2.run("node", "doctor", "--json", "--config", site.config("work"))
    assert done.returncode == 0, done.stdout
    assert any(finding["what"].endswith("for data1") and finding["works"] for finding in json.loads(done.stdout))


def test_keys_without_effect_are_reported(site: Site, i2: Commands, source: Path) -> None:
    more = f'delete_target_with_rule = true\nexclude = ["{source}/mistyped"]'
    site.prepare(site.rule("data1", source, more))
    site.start("work")
    told = [line for line in site.log("work").read_text().splitlines() if f"[{Code.NO_EFFECT.value}]" in line]
    assert ["rule.delete_target_with_rule" in told[0], f"{source}/mistyped" in told[1]] == [True, True]
    done = i2.run("node", "doctor", "--json", "--config", site.config("work"))
    found = {finding["what"]: finding for finding in json.loads(done.stdout)}
    assert "not available" in found["rule.delete_target_with_rule of data1"]["why"]
    assert f"{source}/mistyped" in found["rule.exclude of data1"]["why"]


def test_a_service_manager_gets_the_state_of_the_daemon(site: Site, i2: Commands, source: Path) -> None:
    site.prepare(site.rule("data1", source))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(site.place / "notify"))
        manager.settimeout(60)
        i2.environment["NOTIFY_SOCKET"] = str(site.place / "notify")
        process = site.start("backup")
        assert manager.recv(1000).startswith(b"READY=1\nSTATUS=backup role on 127.0.0.1")
        process.send_signal(signal.SIGHUP)
        assert manager.recv(1000).startswith(b"RELOADING=1\n")
        assert manager.recv(1000) == b"READY=1"
        assert i2.finish(process, signal.SIGTERM)[0] == 0
        assert manager.recv(1000) == b"STOPPING=1"
