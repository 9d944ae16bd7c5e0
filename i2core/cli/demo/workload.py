"""The workload of the demo: a tree that changes all the time, like one on a busy server. It has small files, renames of
files and directories, a growing log, and an SQLite database in WAL mode. A table of customers stays as it is.

    python -m i2core.cli.demo.workload PARENT_PID DIRECTORY COUNTS

Changes the tree until SIGTERM, then closes the database. Writes the count of each operation into the JSON file COUNTS.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from i2core.node.oneshot.lifeline import die_with_parent

SEED = 20141
DIRECTORIES = 40
FILES = 2000
DATABASE = "orders.db"
LOG = "app.log"
TABLE = "customers.csv"
ROWS = 5000
"""The table of customers, which the workload leaves alone: the demo empties it by mistake."""

TICK_S = 0.05
OPERATIONS_A_TICK = 12
"""About 250 operations a second: busy, and still watchable on two cores."""
REPORT_S = 0.25


def plant(root: Path) -> int:
    """Creates the tree in the empty directory `root`; returns the number of files."""
    dice = random.Random(SEED)  # noqa: S311 (the same tree each time)
    for number in range(DIRECTORIES):
        (root / f"d{number:03}").mkdir()
    for number in range(FILES):
        path = root / f"d{number % DIRECTORIES:03}" / f"f{number:05}"
        path.write_bytes(dice.randbytes(dice.randint(100, 12_000)))
    (root / LOG).write_text("begin\n")
    with closing(_database(root)) as database:
        database.execute("create table orders (id integer primary key, customer text, amount real)")
        database.commit()
    (root / TABLE).write_text("".join(f"{row},customer {row},{dice.random():.6f}\n" for row in range(ROWS)))
    return FILES + 3


def rows(database: Path, *, immutable: bool) -> tuple[str, int]:
    """The answer of SQLite's integrity check, and the number of orders. `immutable` opens without any side file."""
    mode = "immutable=1" if immutable else "mode=ro"
    with closing(sqlite3.connect(f"{database.as_uri()}?{mode}", uri=True)) as connection:
        (integrity,) = connection.execute("pragma integrity_check").fetchone()
        (count,) = connection.execute("select count(*) from orders").fetchone()
    return integrity, count


def _database(root: Path) -> sqlite3.Connection:
    database = sqlite3.connect(root / DATABASE)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=normal")
    return database


class Workload:
    """Changes a tree that `plant` made, one random operation after another."""

    def __init__(self, root: Path, dice: random.Random) -> None:
        self._root = root
        self._dice = dice
        self._tree: dict[str, list[str]] = {
            entry.name: sorted(os.listdir(entry.path)) for entry in os.scandir(root) if entry.is_dir()
        }
        self._serial = 0
        self._database = _database(root)
        self.done: Counter[str] = Counter()
        self._operations = {
            "create": (self._create, 30),
            "modify": (self._modify, 30),
            "rename": (self._rename, 15),
            "delete": (self._delete, 20),
            "chmod": (self._chmod, 4),
            "rename directory": (self._rename_directory, 1),
            "replace directory": (self._replace_directory, 1),
        }

    def tick(self) -> None:
        """One bundle of operations, one log line, one transaction."""
        for _ in range(OPERATIONS_A_TICK):
            name = self._dice.choices(list(self._operations), [weight for _, weight in self._operations.values()])[0]
            self._operations[name][0]()
            self.done[name] += 1
        with open(self._root / LOG, "a") as log:
            log.write(f"{time.time():.6f} {sum(self.done.values())} operations\n")
        self.done["append"] += 1
        amounts = [(f"customer {self._dice.randint(1, 500)}", self._dice.random() * 100) for _ in range(3)]
        with self._database:
            self._database.executemany("insert into orders (customer, amount) values (?, ?)", amounts)
        self.done["insert"] += len(amounts)

    def close(self) -> None:
        """Closes the database, which merges its WAL."""
        self._database.close()

    def _pick(self) -> tuple[str, str] | None:
        directory = self._dice.choice(list(self._tree))
        names = self._tree[directory]
        return (directory, self._dice.choice(names)) if names else None

    def _new_name(self, prefix: str) -> str:
        self._serial += 1
        return f"{prefix}{self._serial:06}"

    def _write(self, directory: str) -> None:
        name = self._new_name("n")
        (self._root / directory / name).write_bytes(self._dice.randbytes(self._dice.randint(0, 16_000)))
        self._tree[directory].append(name)

    def _create(self) -> None:
        self._write(self._dice.choice(list(self._tree)))

    def _modify(self) -> None:
        if picked := self._pick():
            with open(self._root.joinpath(*picked), "r+b") as file:
                file.seek(self._dice.randint(0, 8000))
                file.write(self._dice.randbytes(self._dice.randint(1, 4000)))

    def _rename(self) -> None:
        if picked := self._pick():
            to = self._dice.choice(list(self._tree))
            name = self._new_name("r")
            (self._root.joinpath(*picked)).rename(self._root / to / name)
            self._tree[picked[0]].remove(picked[1])
            self._tree[to].append(name)

    def _delete(self) -> None:
        if picked := self._pick():
            self._root.joinpath(*picked).unlink()
            self._tree[picked[0]].remove(picked[1])

    def _chmod(self) -> None:
        if picked := self._pick():
            self._root.joinpath(*picked).chmod(self._dice.choice([0o600, 0o640, 0o644, 0o755]))

    def _rename_directory(self) -> None:
        directory = self._dice.choice(list(self._tree))
        to = self._new_name("e")
        (self._root / directory).rename(self._root / to)
        self._tree[to] = self._tree.pop(directory)

    def _replace_directory(self) -> None:
        """Removes a directory with all its contents, and creates a new one of its name at once."""
        directory = self._dice.choice(list(self._tree))
        shutil.rmtree(self._root / directory)
        count = min(20, len(self._tree.pop(directory)))
        new = self._new_name("g")
        (self._root / new).mkdir()
        self._tree[new] = []
        for _ in range(count):
            self._write(new)


def _report(workload: Workload, counts: Path) -> None:
    new = counts.with_suffix(".new")
    new.write_text(json.dumps(workload.done))
    new.replace(counts)


def main(parent: int, root: Path, counts: Path) -> None:
    """Runs until SIGTERM; the operation under way is finished first."""
    asked_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: asked_to_end.append(number))
    die_with_parent(parent)
    workload = Workload(root, random.Random(SEED + 1))  # noqa: S311 (the same changes each time)
    reported = 0.0
    try:
        while not asked_to_end:
            began = time.monotonic()
            workload.tick()
            if began - reported >= REPORT_S:
                _report(workload, counts)
                reported = began
            time.sleep(max(0.0, began + TICK_S - time.monotonic()))
    finally:
        workload.close()
        _report(workload, counts)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
