"""Two daemons that do not know each other pair by a token, and a revocation ends the trust."""

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

from i2core.node.control.client import control_client
from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from .commands import Commands

UP = "is up"


def free_ports(count: int) -> list[int]:
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


@attrs.define
class Nodes:
    """A backup node and a work node with one rule, as an administrator would write them who has no fingerprint."""

    i2: Commands
    place: Path
    ports: list[int] = attrs.field(factory=lambda: free_ports(3))

    def prepare(self, source: Path) -> None:
        mirror, replication, control = self.ports
        (self.place / "replicas").mkdir()
        ports = f"mirror_port = {mirror}\nreplication_port = {replication}\n"
        self.config("backup").write_text(
            f'[node]\nname = "backup"\nstate_dir = "{self.place}/backup.state"\ncontrol_port = {control}\n'
            f'[backup]\nlisten = "127.0.0.1"\nallow_roots = ["{self.place}/replicas"]\n{ports}'
        )
        self.config("work").write_text(
            f'[node]\nname = "work"\nstate_dir = "{self.place}/work.state"\n'
            f'[work]\n[[work.peer]]\nname = "backup"\naddress = "127.0.0.1"\n{ports}'
            f'[[rule]]\nname = "data1"\nbackup = "backup"\n'
            f'paths = [{{ source = "{source}", target = "{self.place}/replicas/data1" }}]\n'
        )

    def config(self, name: str) -> Path:
        return self.place / f"{name}.toml"

    def log(self, name: str) -> Path:
        return self.place / f"{name}.log"

    def start(self, name: str) -> subprocess.Popen[str]:
        before = self.log(name).read_text().count(UP) if self.log(name).exists() else 0
        process = self.i2.start("node", "run", "--config", self.config(name), log=self.log(name))
        self.i2.eventually(
            f"{name} is up",
            lambda: self.log(name).read_text().count(UP) > before or process.poll() is not None,
        )
        assert process.poll() is None, self.log(name).read_text()
        return process

    def do(self, name: str, *arguments: str | Path) -> Any:
        """The JSON document of ``i2 node …`` there, done with success."""
        done = self.i2.run("node", *arguments, "--json", "--config", self.config(name))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def token(self, *arguments: str) -> str:
        return str(self.do("backup", "token", *arguments)["token"])

    def rule(self) -> dict[str, Any]:
        """The rule's status on the work node."""
        with control_client(self.place / "work.state") as daemon:
            return next(rule for rule in daemon.rules() if rule["name"] == "data1")

    def states(self, name: str) -> dict[str, str]:
        return {peer["name"]: peer["state"] for peer in self.do(name, "peers")}


@pytest.fixture
def nodes(i2: Commands, tmp_path: Path, source: Path) -> Iterator[Nodes]:
    nodes = Nodes(i2, tmp_path)
    nodes.prepare(source)
    yield nodes


def test_pair_replicate_revoke_and_pair_again(nodes: Nodes, i2: Commands, source: Path) -> None:
    backup, _ = nodes.start("backup"), nodes.start("work")
    i2.eventually("the rule waits to be paired", lambda: nodes.rule()["code"] == 3602)
    assert nodes.states("work") == {"backup": "unpaired"}
    assert nodes.states("backup") == {}

    token = nodes.token()
    joined = nodes.do("work", "join", token)
    assert joined["name"] == "backup"
    assert nodes.states("work") == {"backup": "trusted"}
    assert nodes.states("backup") == {"work": "trusted"}
    i2.eventually("the rule replicates without a restart", lambda: nodes.rule()["state"] == "replicating")
    i2.eventually("the replica is equal", lambda: compare_trees(source, nodes.place / "replicas/data1") == [])
    modes = [path.stat().st_mode & 0o777 for path in nodes.place.glob("*.state/*.json")]
    assert modes
    assert set(modes) == {0o600}

    # The lost answer of the first try would be asked for again: the same node, the same token.
    assert nodes.do("work", "join", token) == joined

    nodes.do("backup", "revoke", "work")
    i2.eventually("the rule ends", lambda: (nodes.rule()["state"], nodes.rule()["code"]) == ("stopped", 3602))
    assert nodes.states("backup") == {"work": "revoked"}
    again = i2.run("node", "join", token, "--config", nodes.config("work"))
    assert again.returncode == 1
    assert "does not accept tokens now" in again.stderr
    assert "127.0.0.1" in nodes.log("backup").read_text()

    assert i2.finish(backup, signal.SIGTERM)[0] == 0
    nodes.start("backup")
    with control_client(nodes.place / "work.state") as daemon:
        daemon.act("data1", "start")
    i2.eventually("a revocation survives a restart", lambda: nodes.rule()["code"] == 3602)
    assert nodes.rule()["state"] != "replicating"

    nodes.do("work", "join", nodes.token("--for", "work"))
    (source / "later").write_text("after all")
    i2.eventually("it replicates again", lambda: compare_trees(source, nodes.place / "replicas/data1") == [])
