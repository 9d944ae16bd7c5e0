"""Two nodes as real processes, which a test may kill, start again and query."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from i2core.api import I2Error
from i2core.node.control.client import control_client
from i2core.node.pairing.identity import Identity

LAUNCHER = Path(__file__).with_name("launcher.py")
UP = "is up"
START_S = 60.0
"""Longest wait for a daemon to be up: generous, for machines with other things to do."""
TAIL_LINES = 40
LINE = 600
RULE = "data"


def eventually(what: str, condition: Callable[[], bool], limit_s: float = 60.0) -> None:
    """Waits until `condition()`; fails with `what` after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Free ports of the loopback address."""
    with contextlib.ExitStack() as stack:
        bound = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in bound]


class Launcher:
    """See `launcher.py`. `within` is the prefix of its command: ``ip netns exec …``."""

    def __init__(self, within: Sequence[str] = ()) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603
            [*within, sys.executable, LAUNCHER],
            env=os.environ | {"I2_LANG": "en", "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None and self._process.stdin is not None
        self._out, self._in = self._process.stdout, self._process.stdin
        assert self._out.readline() == "ready\n"

    def start(self, config: Path, log: Path) -> int:
        """The pid of a daemon that begins to run."""
        self._in.write(f"{config}\t{log}\n")
        self._in.flush()
        return int(self._out.readline())

    def close(self) -> None:
        """Kills its daemons, and ends."""
        self._in.close()
        self._out.close()
        self._process.wait()


@attrs.define
class Node:
    """One node's files, and its daemon when there is one."""

    name: str
    home: Path
    launcher: Launcher
    more: str = ""
    """The config without ``[node]``."""
    starts: int = 0
    _pidfd: int = -1

    @property
    def config(self) -> Path:
        """The config file."""
        return self.home / f"{self.name}.toml"

    @property
    def state_dir(self) -> Path:
        """The node's own state."""
        return self.home / f"{self.name}.state"

    @property
    def log(self) -> Path:
        """Its stderr, over all of its lives."""
        return self.home / f"{self.name}.log"

    def configure(self, more: str) -> None:
        """Writes the config file."""
        head = f'[node]\nname = "{self.name}"\nstate_dir = "{self.state_dir}"\ncontrol_port = 0\n'
        self.config.write_text(head + more)

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self, *, wait: bool = True) -> None:
        """Starts the daemon; with `wait`, returns when it is up."""
        before = self.said().count(UP)
        self._pidfd = os.pidfd_open(self.launcher.start(self.config, self.log))
        self.starts += 1
        if wait:
            eventually(f"{self.name} is up", lambda: self.said().count(UP) > before or not self.alive, START_S)
            assert self.alive, f"{self.name} ended by itself:\n{self.tail()}"

    @property
    def alive(self) -> bool:
        """True while the daemon runs."""
        return self._pidfd >= 0 and not _readable(self._pidfd, 0)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends the daemon by a signal, and waits until it is gone."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)
        assert _readable(self._pidfd, START_S), f"{self.name} does not end"
        os.close(self._pidfd)
        self._pidfd = -1

    def status(self, rule: str = RULE) -> dict[str, Any]:
        """The rule's entry of ``i2 rule status --json``; empty when the node does not answer, or does not list it."""
        with contextlib.suppress(I2Error), control_client(self.state_dir) as daemon:
            return next((entry for entry in daemon.rules() if entry["name"] == rule), {})
        return {}

    def act(self, action: str, rule: str = RULE) -> None:
        """``i2 rule start`` or ``stop``."""
        with control_client(self.state_dir) as daemon:
            daemon.act(rule, action)

    def tail(self) -> str:
        """The end of its log, for the report of a failure."""
        return "\n".join([f"--- {self.name}", *(line[-LINE:] for line in self.said().splitlines()[-TAIL_LINES:])])


def _readable(pidfd: int, limit_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(limit_s * 1000))


@attrs.define(kw_only=True)
class Site:
    """A work node and a backup node, and one rule between `source` and `replica`."""

    home: Path
    work: Node
    backup: Node
    source: Path
    replica: Path

    @property
    def nodes(self) -> tuple[Node, Node]:
        """Both."""
        return self.work, self.backup

    def replicating(self, limit_s: float = 120.0) -> None:
        """Waits until the mirror is done and the link is up."""
        eventually("it replicates", lambda: self.work.status().get("state") == "replicating", limit_s)

    def settled(self, limit_s: float = 120.0) -> None:
        """Waits until the work node reports, more than once, that everything is durable on the replica."""
        deadline, times = time.monotonic() + limit_s, 0
        while times < 3:
            status = self.work.status()
            state, code = status.get("state"), status.get("code")
            assert state != "stopped", f"it stopped with {code}: {status['cause']}\n{self.tails()}"
            safe = state == "replicating" and not status["lag_seconds"] and status["seq"] == status["durable_seq"]
            times = times + 1 if safe else 0
            assert time.monotonic() < deadline, f"not settled within {limit_s:.0f} s: {status}\n{self.tails()}"
            time.sleep(0.2)

    def tails(self) -> str:
        """The end of both logs."""
        return "\n".join(node.tail() for node in self.nodes)

    def close(self) -> None:
        """Kills both."""
        for node in self.nodes:
            node.kill()


@contextmanager
def open_site(
    home: Path,
    *,
    tls: bool = True,
    rule: str = "",
    work_role: str = "",
    hosts: tuple[str, str] = ("127.0.0.1", "127.0.0.1"),
    within: tuple[Sequence[str], Sequence[str]] = ((), ()),
    replicas: Path | None = None,
) -> Iterator[Site]:
    """Both nodes configured, not started. `rule` and `work_role`: further lines of those tables. `hosts` and `within`
    of the work node and the backup node: address, and the prefix of commands there."""
    source, replicas = home / "source", replicas or home / "replicas"
    source.mkdir(exist_ok=True)
    replicas.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        launchers = [Launcher(within[0])]
        stack.callback(launchers[0].close)
        if within[1] != within[0]:
            launchers.append(Launcher(within[1]))
            stack.callback(launchers[1].close)
        work, backup = Node("work", home, launchers[0]), Node("backup", home, launchers[-1])
        prints = {}
        for node in (work, backup):
            prints[node.name] = Identity.load_or_create(node.state_dir, node.name).fingerprint if tls else ""
        mirror, replication = free_ports(2)
        common = f"mirror_port = {mirror}\nreplication_port = {replication}\n"
        plain = "" if tls else "plaintext = true\n"
        pins = {name: f'fingerprint = "{value}"\n' if tls else "" for name, value in prints.items()}
        backup.configure(
            f'[backup]\nlisten = "{hosts[1]}"\nallow_roots = ["{replicas}"]\n{common}{plain}'
            f'[[backup.peer]]\nname = "work"\n{pins["work"]}'
        )
        work.configure(
            f"[work]\n{plain}{work_role}\n"
            f'[[work.peer]]\nname = "backup"\naddress = "{hosts[1]}"\n{common}{pins["backup"]}'
            f'[[rule]]\nname = "{RULE}"\nbackup = "backup"\n'
            f'paths = [{{ source = "{source}", target = "{replicas}/{RULE}" }}]\n'
            f'orphans = {{ action = "delete" }}\nbrake = {{ share = 1.0 }}\n{rule}\n'
        )
        site = Site(home=home, work=work, backup=backup, source=source, replica=replicas / RULE)
        stack.callback(site.close)
        yield site
