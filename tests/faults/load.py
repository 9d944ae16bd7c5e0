"""Starts and stops the busy server of `busy.py`, and checks its database afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

BUSY = Path(__file__).with_name("busy.py")
TOTAL = 100 * 1000
"""The sum of all accounts."""


@attrs.define
class Load:
    """A running server. `done`: the number of operations of each kind, after it was stopped."""

    top: Path
    _process: subprocess.Popen[str]
    done: dict[str, int] = attrs.field(factory=dict)

    def stop(self) -> None:
        """Ends it like a crash."""
        self._process.send_signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, "the load itself failed"
        self.done = json.loads(out.splitlines()[-1])

    def check_database(self, copy: Path, aside: Path) -> list[str]:
        """The errors of the database in `copy`, a copy of the directory, when a server opens it in `aside`."""
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(copy / "db", aside)
        with closing(sqlite3.connect(aside / "bank.db")) as database:
            (integrity,) = database.execute("pragma integrity_check").fetchone()
            (total,) = database.execute("select sum(amount) from account").fetchone()
            (entries, last) = database.execute("select count(*), max(id) from entry").fetchone()
        found = {"integrity": integrity, "total": total, "entries": entries, "last": last}
        wanted = {"integrity": "ok", "total": TOTAL, "entries": self.done["commits"], "last": self.done["commits"]}
        return [
            f"database: {what} is {found[what]}, not {wanted[what]}" for what in wanted if found[what] != wanted[what]
        ]


@contextmanager
def open_load(top: Path, seed: int, *, mebibytes: int = 64) -> Iterator[Load]:
    """A running server in `top`, whose first files exist; killed at the end of the body unless it was stopped."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", BUSY, top, str(seed), str(mebibytes)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "planted\n"
        yield Load(top, process)
    finally:
        process.kill()
        process.communicate()
