"""A busy server in a separate process: its files are replicated while nodes are killed, links cut and disks filled.

    busy.py DIRECTORY SEED [MEBIBYTES]

Beneath DIRECTORY it keeps an SQLite database in WAL mode, logs that grow, documents that an editor replaces by rename,
trees that move as a whole, hard links, attributes, and one big file that changes in place. It works until SIGTERM, then
ends like a crash, which leaves the database's log, and prints a JSON object with the number of operations of each kind.
`commits` is the number of transactions that are certainly in the database, `written` the bytes written after the first
files. It needs only the standard library.
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
from collections.abc import Callable
from pathlib import Path

OPERATIONS_S = 250
"""Operations in a second, at most."""
TICK_S = 0.02
ACCOUNTS = 100
TREES = 6
DOCUMENTS = 40
LOGS = 8
LOG_BYTES = 2_000_000
"""Logs are rotated at this size."""
BURST_BYTES = 256 * 1024


class Server:
    """Works in `top`; the same seed does the same."""

    def __init__(self, top: Path, seed: int, big_bytes: int) -> None:
        self.top = top
        self.done: Counter[str] = Counter()
        self.commits = 0
        self._dice = random.Random(seed)  # noqa: S311 (a seed, not a secret)
        self._big_bytes = big_bytes
        for name in ("db", "logs", "documents", "trees", "links"):
            (top / name).mkdir()
        self._plant()
        self._database = sqlite3.connect(top / "db" / "bank.db", isolation_level=None)
        # With one process the log needs no index in shared memory: stores through mmap raise no events.
        self._database.execute("pragma locking_mode = exclusive")
        self._database.execute("pragma journal_mode = wal")
        self._database.execute("pragma synchronous = off")
        self._database.execute("pragma wal_autocheckpoint = 200")
        self._database.execute("create table account (id integer primary key, amount integer not null)")
        self._database.execute("create table entry (id integer primary key, source int, target int, text blob)")
        self._database.executemany("insert into account values (?, 1000)", [(each,) for each in range(ACCOUNTS)])

    def _plant(self) -> None:
        dice = self._dice
        for number in range(TREES):
            for inner in range(4):
                directory = self.top / "trees" / f"t{number}" / f"d{inner}"
                directory.mkdir(parents=True)
                for leaf in range(12):
                    (directory / f"f{leaf}").write_bytes(dice.randbytes(dice.randint(0, 30_000)))
        for number in range(DOCUMENTS):
            self._document(number).write_bytes(dice.randbytes(dice.randint(100, 60_000)))
        with open(self.top / "big", "wb") as file:
            for _ in range(self._big_bytes >> 20):
                file.write(dice.randbytes(1 << 20))

    def _document(self, number: int) -> Path:
        return self.top / "documents" / f"text {number}.md"

    # ------------------------------------------------------------------------------------------ what it does

    def transaction(self) -> None:
        """Moves money from one account to another in one transaction: the sum stays the same, whatever is lost."""
        dice, do = self._dice, self._database.execute
        source, target = dice.sample(range(ACCOUNTS), 2)
        amount = dice.randint(1, 50)
        do("begin")
        do("update account set amount = amount - ? where id = ?", (amount, source))
        do("update account set amount = amount + ? where id = ?", (amount, target))
        do("insert into entry (source, target, text) values (?, ?, ?)", (source, target, dice.randbytes(200)))
        do("commit")
        self.commits += 1

    def append(self) -> None:
        """Appends a line to a log, which is rotated when it is long."""
        log = self.top / "logs" / f"log{self._dice.randrange(LOGS)}"
        with open(log, "ab") as file:
            file.write(b"%d " % self.done["append"] + self._dice.randbytes(self._dice.randint(20, 4000)) + b"\n")
            long = file.tell() > LOG_BYTES
        if long:
            log.replace(log.with_suffix(".1"))

    def save(self) -> None:
        """Saves like an editor: renames the new text over the old one, of which a backup is kept sometimes."""
        document = self._document(self._dice.randrange(DOCUMENTS))
        fresh = document.with_name(f".{document.name}.swp")
        fresh.write_bytes(self._dice.randbytes(self._dice.randint(0, 60_000)))
        if self._dice.random() < 0.3:
            backup = document.with_name(document.name + "~")
            backup.unlink(missing_ok=True)
            os.link(document, backup)
        fresh.replace(document)

    def move_tree(self) -> None:
        """Renames a tree, or moves it into another one; moves a deep one back."""
        trees = self.top / "trees"
        one, other = self._dice.sample(range(TREES), 2)
        here, below = trees / f"t{one}", trees / f"t{other}" / f"guest{one}"
        away = trees / f"away{one}"
        for moved in (below, away):
            if moved.exists():
                moved.rename(here)
                return
        if here.exists():
            here.rename(below if below.parent.exists() and self._dice.random() < 0.5 else away)

    def rebuild_tree(self) -> None:
        """Rebuilds: removes a directory and creates it again."""
        build = self.top / "trees" / "build"
        shutil.rmtree(build, ignore_errors=True)
        for part in range(3):
            (build / f"part{part}").mkdir(parents=True)
            for number in range(8):
                (build / f"part{part}" / f"o{number}").write_bytes(self._dice.randbytes(self._dice.randint(0, 20_000)))

    def link(self) -> None:
        """Adds or removes a name of a file, or changes it through one of its names."""
        name = self.top / "links" / f"l{self._dice.randrange(30)}"
        if not name.exists():
            os.link(self._document(self._dice.randrange(DOCUMENTS)), name)
        elif self._dice.random() < 0.4:
            name.unlink()
        else:
            with open(name, "ab") as file:
                file.write(self._dice.randbytes(500))

    def change_big(self) -> None:
        """Writes a page, or many, somewhere in the big file; rarely truncates it and lets it grow again."""
        dice = self._dice
        with open(self.top / "big", "r+b") as file:
            if dice.random() < 0.01:
                file.truncate(self._big_bytes - dice.randint(0, 1 << 20))
                file.truncate(self._big_bytes)
            file.seek(dice.randrange(self._big_bytes - BURST_BYTES))
            file.write(dice.randbytes(dice.choice((4096, 4096, 65536, BURST_BYTES))))

    def set_attributes(self) -> None:
        """Sets mode, times and an extended attribute."""
        document = self._document(self._dice.randrange(DOCUMENTS))
        document.chmod(self._dice.choice((0o600, 0o644, 0o750)))
        os.setxattr(document, "user.note", self._dice.randbytes(20))
        if self._dice.random() < 0.5:
            os.utime(document, ns=(0, self._dice.randrange(10**18)))

    def make_special(self) -> None:
        """Creates or removes a symlink and an empty directory."""
        name = self.top / "links" / f"s{self._dice.randrange(10)}"
        if name.is_symlink():
            name.unlink()
            name.mkdir()
        elif name.is_dir():
            name.rmdir()
        else:
            name.symlink_to(f"../documents/nothing {self._dice.randrange(1000)}")

    # ------------------------------------------------------------------------------------------ how long

    def work(self, until: list[int]) -> None:
        """Works until something is in `until`."""
        operations = [operation for operation, weight in self._weights().items() for _ in range(weight)]
        begun, done = time.monotonic(), 0
        while not until:
            for _ in range(max(1, int(OPERATIONS_S * TICK_S))):
                operation = self._dice.choice(operations)
                operation()
                self.done[operation.__name__] += 1
                done += 1
            ahead = begun + done / OPERATIONS_S - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
            else:
                begun -= ahead  # What a slow machine could not do is not made up for.

    def _weights(self) -> dict[Callable[[], None], int]:
        return {
            self.transaction: 30,
            self.append: 20,
            self.save: 12,
            self.move_tree: 4,
            self.rebuild_tree: 1,
            self.link: 8,
            self.change_big: 6,
            self.set_attributes: 6,
            self.make_special: 3,
        }


def written() -> int:
    """Bytes that this process has written, as the kernel counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


def main() -> None:
    """Works until SIGTERM."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    top, seed = Path(sys.argv[1]), int(sys.argv[2])
    big_bytes = (int(sys.argv[3]) if len(sys.argv) > 3 else 64) << 20
    server = Server(top, seed, big_bytes)
    planted = written()
    print("planted", flush=True)
    server.work(told)
    print(json.dumps({"commits": server.commits, "written": written() - planted, **server.done}), flush=True)
    os._exit(0)  # Without closing the database: its log stays, and the next process that opens it replays it.


if __name__ == "__main__":
    main()
