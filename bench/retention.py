"""Gives up the past of a large history: index and journal together, by the product's runner.

python bench/retention.py 1000000 10000000     writes bench/retention.md; needs some GB beneath BENCH_DIR

Each record overwrites 4 KiB of one of a hundred files, so each has a row and old bytes (half of them random). The
journal is one in files, with segments of 64 MiB. The floor passes over nine tenths of the records, with ten marks
below it. Memory is the largest resident set of the process, above that before the merge.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import trio
from i2_store_cdp.journal import open_journal

from i2core.api.journal import Draft, Header, Journal, JournalContext, Piece, Position
from i2core.history.index.batches import Batch
from i2core.history.index.index import Index
from i2core.history.index.partition import Rows
from i2core.history.journal.frame import Head
from i2core.history.journal.packing import Packed, merged
from i2core.history.model.rows import DataWas, Home, Object
from i2core.history.read.log import Log
from i2core.history.retention.clock import SteadyClock
from i2core.history.retention.joint import Joint, Outcome
from i2core.history.retention.kept import Kept
from i2core.history.retention.pins import Pins
from i2core.history.retention.state import State

BATCH, PAGE, FILES, BLOCKS = 256, 4096, 100, 64
HERE = Path(__file__).resolve().parent
BEGIN_NS = 1_764_000_000 * 10**9


class Seq(NamedTuple):
    seq: int


class Time:
    """It stands still."""

    steady = SteadyClock(BEGIN_NS, b"", 0)

    def now_ns(self) -> int:
        return self.steady.now_ns


class History:
    """What the runner needs, without a replica."""

    def __init__(self, journal: Journal, index: Index) -> None:
        self.journal, self.index, self.clock = journal, index, Time()
        self.replica: Any = None
        self.recorder = self
        self.broken: BaseException | None = None
        self.writing: AbstractContextManager[None] = Watched(self)
        self.pins = Pins(Kept)
        self.durable = Seq(0)
        self.longest_s = 0.0
        """The longest turn that anybody had to wait for."""

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        yield

    def head(self, batch: Batch) -> bytes:
        return self.journal.read_pieces([Piece(Position(batch.segment, batch.position), batch.size)])[0]

    def log(self) -> Log:
        return Log(self.index, self)


class Watched(AbstractContextManager[None]):
    """A lock that tells how long it was held."""

    def __init__(self, history: History) -> None:
        self._history, self._lock = history, Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._history.longest_s = max(self._history.longest_s, time.perf_counter() - self._began)
        self._lock.release()


def _frame(rng: random.Random, first: int) -> Packed:
    rows, old = Rows(), list[bytes | None]()
    for seq in range(first, first + BATCH):
        oid, block, lo = 16 + int(rng.random() ** 2 * FILES), int(rng.random() * BLOCKS), rng.randrange(16) * PAGE
        rows.data.append(DataWas(oid, block, seq, lo, lo + PAGE, 0, 0, 0, 0))
        old.append(rng.randbytes(PAGE // 2) + bytes(PAGE // 2))
    return merged(Head(first, BEGIN_NS + first, BEGIN_NS + first, BATCH, BATCH, BATCH), rows, old)


async def _write(history: History, records: int) -> None:
    rng = random.Random(1)
    catalog = [
        change for oid in range(16, 16 + FILES) for change in (Object(oid, 0, None), Home(1, b"%d" % oid, oid, 0))
    ]
    history.index.catalog.change(catalog)
    for first in range(1, records, BATCH * 16):
        frames = [_frame(rng, at) for at in range(first, first + BATCH * 16, BATCH)]
        heads = [frame.frame.head for frame in frames]
        drafts = [
            Draft(
                Header(1, head.first_seq, BATCH, head.first_ns, head.first_ns + BATCH, head.applied_ns), frame.payload
            )
            for head, frame in zip(heads, frames, strict=True)
        ]
        for frame, placed in zip(frames, await history.journal.append(drafts), strict=True):
            at = placed.payload_at
            history.index.add(frame.placed(*at), (), frame.frame.batch(*at))
            history.index.now.reach = placed.end.segment, placed.end.offset
        history.durable = Seq(first + BATCH * 16 - 1)


async def measure(records: int, base: Path) -> list[str]:
    """One number of records."""
    context = JournalContext(directory=os.fsencode(base / "journal"), reserve_bytes=0)
    (base / "index").mkdir()
    async with open_journal(context) as journal:
        history = History(journal, Index(str(base / "index")))
        await _write(history, records)
        history.longest_s = 0.0
        used = (await journal.space()).used_bytes
        before_kib = _resident_kib()
        last = history.durable.seq
        state = State(begun_ns=BEGIN_NS, floor_ns=BEGIN_NS + last, floor=last * 9 // 10)
        kept = Kept(state.floor, range(0, state.floor, state.floor // 10))
        run = [segment for segment in journal.segments[:-1] if segment.next_seq - 1 <= state.floor]
        outcome, began = Outcome(), (time.perf_counter(), time.process_time())
        await Joint(history).merge(run, kept, state, outcome)
        wall_s, cpu_s = time.perf_counter() - began[0], time.process_time() - began[1]
        after = (await journal.space()).used_bytes
        history.index.close()
    return [
        f"{records:,}",
        f"{outcome.seen:,}",
        f"{outcome.left:,}",
        f"{outcome.seen / cpu_s:,.0f}",
        f"{outcome.seen / wall_s:,.0f}",
        f"{max(_resident_kib() - before_kib, 0) / 1024:.0f}",
        f"{history.longest_s * 1000:.0f}",
        f"{used / 2**20:,.0f}",
        f"{after / 2**20:,.0f}",
    ]


def _resident_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


HEADER = (
    "| records | rows read | rows that stay | rows/s of CPU | rows/s | MiB of memory more | longest turn, ms "
    "| journal before, MiB | after, MiB |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", type=int, nargs="+")
    parser.add_argument("--one", action="store_true")
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as base:
            print("|", " | ".join(trio.run(measure, options.records[0], Path(base))), "|")
        return
    rows = []
    for records in options.records:
        command = [sys.executable, __file__, "--one", str(records)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(done.stdout)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = f"# Giving up the past\n\nBy `bench/retention.py`, {today}. See there for what is measured.\n\n{HEADER}"
    (HERE / "retention.md").write_text(text + "".join(rows))


if __name__ == "__main__":
    main()
