"""Starts daemons quickly: a process that has imported `i2 node run`, and forks for each daemon to be started.

A start costs milliseconds instead of the interpreter's half second, so that a test can kill hundreds. What runs in the
child is the command itself. One line in, ``CONFIG<tab>LOG``, one line out, the pid. At the end of its input it kills
what it started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import ModuleType


def _imported() -> list[ModuleType]:
    """Imports everything that a daemon imports at its start."""
    import i2_transport_tcp.client
    import i2_transport_tcp.server

    import i2core.cli.node
    import i2core.node.daemon.supervisor
    from i2core.registry import Registry

    Registry.load()
    return [i2_transport_tcp.client, i2_transport_tcp.server, i2core.cli.node, i2core.node.daemon.supervisor]


def _become(config: str, log: str) -> None:
    from i2core.cli.main import run

    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for number, target in ((0, null), (1, fd), (2, fd)):
        os.dup2(target, number)
    os.setpgid(0, 0)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    code = 1
    try:
        code = run(["node", "run", "--config", config])
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serves until standard input ends."""
    _imported()
    children: set[int] = set()
    print("ready", flush=True)
    for line in sys.stdin:
        config, log = line.rstrip("\n").split("\t")
        # Not by a handler of SIGCHLD, which the children would inherit.
        children -= {pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]}
        pid = os.fork()
        if not pid:
            _become(config, log)
        children.add(pid)
        print(pid, flush=True)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
