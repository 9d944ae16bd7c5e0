"""A work node and a backup node as two daemons on this host, joined by TLS with pinned keys. All their files are in one
directory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs

import i2core
from i2core.api import Code, I2Error, StopRule
from i2core.cli.output import printable
from i2core.node.control.client import control_client
from i2core.node.pairing.identity import Identity

RULE = "demo"
WORK, BACKUP = "demo-work", "demo-backup"
_BACKUP_TOML = """
[node]
name = "{backup}"
state_dir = {backup_state}
control_port = 0
[backup]
listen = "127.0.0.1"
mirror_port = {mirror_port}
replication_port = {replication_port}
allow_roots = [{allow_root}]
[[backup.peer]]
name = "{work}"
fingerprint = "{work_fingerprint}"
"""
_WORK_TOML = """
[node]
name = "{work}"
state_dir = {work_state}
[work]
cache_dir = {cache_dir}
[[work.peer]]
name = "{backup}"
address = "127.0.0.1"
mirror_port = {mirror_port}
replication_port = {replication_port}
fingerprint = "{backup_fingerprint}"
[[rule]]
name = "demo"
backup = "{backup}"
paths = [{{ source = {source}, target = {target} }}]
orphans = {{ action = "delete" }}
# The workload replaces the whole tree within a minute, on purpose.
brake = {{ share = 1.0 }}
cdp = {{}}
"""
END_S = 15.0
"""How long a process may take to end by itself."""


@attrs.define
class Pair:
    """Both daemons. All methods block; call them from a worker thread while something else runs."""

    place: Path
    source: Path
    replica: Path
    _processes: dict[str, subprocess.Popen[str]] = attrs.field(factory=dict, init=False)

    @classmethod
    def beneath(cls, place: Path) -> Pair:
        """Creates directories, identities and configs in `place`; starts nothing."""
        pair = cls(place, place / "work" / "data", place / "backup" / "data")
        pair.source.mkdir(parents=True)
        pair.replica.parent.mkdir()
        mirror_port, replication_port = _free_ports(2)
        fields = {
            "mirror_port": mirror_port,
            "replication_port": replication_port,
            "allow_root": _quoted(pair.replica.parent),
            "cache_dir": _quoted(place / "cache"),
            "source": _quoted(pair.source),
            "target": _quoted(pair.replica),
        }
        for name, key in ((WORK, "work"), (BACKUP, "backup")):
            fields[key] = name
            fields[f"{key}_state"] = _quoted(pair.state_dir(name))
            fields[f"{key}_fingerprint"] = Identity.load_or_create(pair.state_dir(name), name).fingerprint
        pair._config(BACKUP).write_text(_BACKUP_TOML.format(**fields))
        pair._config(WORK).write_text(_WORK_TOML.format(**fields))
        return pair

    def state_dir(self, name: str) -> Path:
        """Of that node."""
        return self.place / f"{name}.state"

    def start(self, *arguments: str, name: str) -> subprocess.Popen[str]:
        """A child process with its errors in ``NAME.log``. It ends with this process, even if this one is killed.

        Call this in the main thread: the child's lifeline is tied to the thread that forks.
        """
        inherited = os.environ.get("PYTHONPATH")
        here = str(Path(i2core.__file__).parent.parent)
        with open(self.place / f"{name}.log", "a") as log:
            process = subprocess.Popen(  # noqa: S603 (our own interpreter with our own modules)
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                cwd=self.place,
                env=os.environ | {"PYTHONPATH": f"{here}:{inherited}" if inherited else here},
                process_group=0,  # Ctrl-C reaches only the demo, which ends its children in order
            )
        self._processes[name] = process
        return process

    def start_node(self, name: str) -> None:
        """Starts one daemon; `rules` answers when it is up."""
        arguments = ("i2core.cli.demo.child", str(os.getpid()), "node", "run", "--config", str(self._config(name)))
        self.start(*arguments, name=name)

    def rules(self, name: str) -> list[dict[str, Any]] | None:
        """The answer of ``i2 rule status --json`` on that node; None while it is not up yet.

        Raises:
            StopRule: its daemon has ended.
        """
        self.check()
        try:
            with control_client(self.state_dir(name)) as daemon:
                return daemon.rules()
        except I2Error as error:
            if error.code is Code.NETWORK:
                return None
            raise

    def check(self) -> None:
        """Checks that no process has ended.

        Raises:
            StopRule: one has ended by itself; the message has its last lines of output.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StopRule(
                    f"ended with exit code {process.returncode}: {self.last_words(name)}",
                    code=Code.INTERNAL,
                    obj=name,
                )

    def last_words(self, name: str) -> str:
        """The last lines of that process's log."""
        lines = (self.place / f"{name}.log").read_text(errors="replace").splitlines()
        return " | ".join(printable(line) for line in lines[-3:]) or "no output"

    def end(self, name: str) -> None:
        """Ends one process; kills it when it hangs."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def end_all(self) -> None:
        """Ends every process, the workload first."""
        for name in reversed(list(self._processes)):
            self.end(name)

    def _config(self, name: str) -> Path:
        return self.place / f"{name}.toml"


def _quoted(path: Path) -> str:
    return json.dumps(str(path))  # a JSON text is a TOML text


def _free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago. If another process takes one first, the node reports it and the demo fails."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [bound.getsockname()[1] for bound in sockets]
