"""The way back: a table is emptied by mistake, the history's log shows when, and the state before comes back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from i2core.cli.demo.pair import BACKUP, RULE, Pair
from i2core.cli.demo.workload import TABLE
from i2core.node.control.client import ControlClient, control_client

UNMOUNT_S = 10.0


@attrs.frozen(kw_only=True)
class Recovered:
    """What came back."""

    seq: int
    """The recovered state: that after the change of this number."""
    moment: str
    """Its time, as people write it."""
    files: int
    bytes: int
    seconds: float
    equal: bool
    """The recovery has proved that the directory is equal to that moment, and the table has its rows again."""
    rows: int
    """Rows of the table there."""


@attrs.frozen(kw_only=True)
class Emptied:
    """The change that emptied the table, as the log has it."""

    time: str
    """As people write it."""
    seq: int

    @property
    def before(self) -> int:
        """The number of the state that the change found."""
        return self.seq - 1


@attrs.define
class Past:
    """The past of the demo's replica. All methods block."""

    _pair: Pair
    _table: bytes = attrs.field(init=False, default=b"")
    """The content before the mistake."""

    @property
    def place(self) -> Path:
        """The directory that gets the recovered state."""
        return self._pair.place / "recovered"

    @property
    def point(self) -> Path:
        """The directory that the moment is mounted on."""
        return self._pair.place / "mounted"

    def make_mistake(self) -> int:
        """Empties the table; returns how many rows are gone."""
        table = self._pair.source / TABLE
        self._table = table.read_bytes()
        table.write_bytes(b"")
        return _rows(self._table)

    def has_mistake(self, *_: object) -> bool:
        """Whether it has reached the backup node."""
        return bool(self._emptyings())

    def find_mistake(self) -> Emptied:
        """Finds it in the log."""
        first = self._emptyings()[0]
        return Emptied(time=first["time"], seq=first["seq"])

    def _emptyings(self) -> list[dict[str, Any]]:
        """What the log has about an empty table, oldest first."""
        with self._backup() as daemon:
            found = daemon.history_log(RULE, {"path": TABLE, "op": "create,truncate", "oldest": 1})
        return [record for record in found["records"] if not record["length"]]

    def recover(self, emptied: Emptied) -> Recovered:
        """Recovers all of the replica, as it was before that change, into a directory of its own."""
        with self._backup() as daemon:
            task = daemon.begin_recovery(RULE, {"to": str(self.place), "at_seq": emptied.before})
            result = daemon.await_task(task)
        table = _content(self.place / TABLE)
        return Recovered(
            seq=result["seq"],
            moment=result["moment"],
            files=result["files"],
            bytes=result["bytes"],
            seconds=result["seconds"],
            equal=bool(result["equal"] and result["proved"] and table == self._table),
            rows=_rows(table),
        )

    @staticmethod
    def can_mount() -> bool:
        """Whether this user can mount here without any package."""
        return os.geteuid() == 0 and os.path.exists("/dev/fuse")

    def look(self, emptied: Emptied) -> int:
        """Mounts the moment before that change, and reads the table there; returns its rows.

        Raises:
            I2Error: it cannot be mounted here.
        """
        self.point.mkdir()
        with self._backup() as daemon:
            task = daemon.mount(RULE, {"dir": str(self.point), "at_seq": emptied.before})["task"]
            try:
                return _rows(_content(self.point / TABLE))
            finally:
                daemon.cancel_task(task)
                daemon.task(task, wait_s=UNMOUNT_S)

    @contextmanager
    def _backup(self) -> Iterator[ControlClient]:
        with control_client(self._pair.state_dir(BACKUP)) as daemon:
            yield daemon


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _rows(table: bytes) -> int:
    return table.count(b"\n")
