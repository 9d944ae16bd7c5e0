"""The history of a replica at some million records: how fast it is written and merged, and how long a look at the past
takes.

python bench/history.py 1000000 10000000     some minutes and 1 GB beneath BENCH_DIR; writes bench/history.md

The records are those of a busy server: 70 % overwrite 4 KiB (40 % of these in one file of 1 GiB), 10 % set attributes,
5 % append, 15 % create and remove names (half of them in one directory). Latencies are median and 99th percentile of
200 looks at random moments with a warm page cache. All times are CPU time of the process, for the machine may be
shared; each number of records has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle, Identity
from i2core.api.records import Kind, Meta, Record
from i2core.history.index.batches import Batch
from i2core.history.index.index import Index
from i2core.history.index.partition import Rows
from i2core.history.journal.frame import Frame, Head, Size, assembled
from i2core.history.journal.packing import packed
from i2core.history.model.meta import pack
from i2core.history.model.rows import DataWas, Home, Left, LogRecord, MetaWas, NameWas, Object, SizeWas, Touch
from i2core.history.plan.plan import Planner
from i2core.history.plan.step import Change
from i2core.history.read.log import Log
from i2core.history.read.past import Past, Ref
from i2core.history.read.places import Places
from i2core.history.retention.kept import Kept
from i2core.history.retention.merge import Merge, put

HERE = Path(__file__).resolve().parent
BATCH, GIB, PAGE = 256, 1 << 30, 4096
ROOT, BUSY, BIG = 16, 50, 100
"""Numbers of the root directory, of the one where half of all names come and go, and of the file of 1 GiB."""
COMMON_DIRS, COMMON_FILES = range(200, 2200), range(2500, 7500)
FILE = Meta(stat.S_IFREG | 0o644, 1000, 1000, 1_764_000_000_000_000_000, (), 0)
DIRECTORY = FILE._replace(mode=stat.S_IFDIR | 0o755)
BEGIN_NS = 1_764_000_000_000_000_000


class Replica:
    """What the history asks of a sink, as plainly as can be: handles are the objects' numbers, and every file has the
    bytes of one real file of 1 GiB."""

    def __init__(self, file: int) -> None:
        self.file = file
        self.names_in: dict[int, dict[bytes, int]] = {TOP: {b"0": ROOT}, STORE: {}, STAGING: {}, ROOT: {}}

    def directory(self, oid: int) -> Handle:
        return Handle(oid)

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        oid = self.names_in.get(directory, {}).get(name)
        return None if oid is None else Handle(oid)

    def names(self, directory: Handle) -> Iterable[bytes]:
        return self.names_in[directory]

    def facts(self, handle: Handle) -> Facts:
        known = handle in self.names_in
        return Facts(Identity(1, handle, 0), DIRECTORY if known else FILE, 0 if known else GIB)

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterable[Extent]:
        return (Extent(lo, hi, False),)

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        return os.pread(self.file, hi - lo, lo)

    def release(self, handle: Handle) -> None:
        """Nothing is open."""


class Journal:
    """Frames without old bytes in one file."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.end = 0

    def append(self, payload: bytes) -> int:
        os.pwrite(self.fd, payload, self.end)
        self.end += len(payload)
        return self.end - len(payload)

    def head(self, batch: Batch) -> bytes:
        return os.pread(self.fd, batch.size, batch.position)


class OldBytes:
    """Old bytes, unpacked, from the same real file: what unpacking costs is measured by itself."""

    def __init__(self, file: int) -> None:
        self.file = file

    def read(self, row: DataWas, lo: int, hi: int) -> bytes:
        return os.pread(self.file, hi - lo, row.position % (GIB - PAGE))


@attrs.define
class Written:
    """One batch that was made up."""

    rows: Rows = attrs.field(factory=Rows)
    log: list[LogRecord] = attrs.field(factory=list)
    catalog: list[Home | Left | Object] = attrs.field(factory=list)
    changes: int = 0
    losses: int = 0


class History:
    """Makes up a history, and looks into it."""

    def __init__(self, base: Path) -> None:
        self.rng = random.Random(1)
        file = os.open(base / "big", os.O_RDWR | os.O_CREAT)
        os.ftruncate(file, GIB)
        self.replica, self.journal, self.old = Replica(file), Journal(base / "frames"), OldBytes(file)
        (base / "index").mkdir()
        self.base = base
        self.index = Index(str(base / "index"))
        self.live: list[tuple[int, bytes, int, int]] = []
        self.seq, self.time_ns, self.oid = 0, BEGIN_NS, 10_000
        self.meta = pack(FILE)
        self.index.catalog.change([Object(ROOT, 0, None), Home(TOP, b"0", ROOT, 0)])
        for oid in (BUSY, BIG, *COMMON_DIRS, *COMMON_FILES):
            name = b"o%d" % oid
            self.replica.names_in[ROOT][name] = oid
            if oid == BUSY or oid in COMMON_DIRS:
                self.replica.names_in[oid] = {}
            self.index.catalog.change([Object(oid, 0, None), Home(ROOT, name, oid, 0)])

    # ------------------------------------------------------------------------------------------- making it up

    def batch(self) -> Written:
        """The next records."""
        made, touched = Written(), dict[int, None]()
        first = self.seq + 1
        for _ in range(BATCH):
            self.seq += 1
            self.time_ns += self.rng.randrange(1, 200_000)
            choice = self.rng.random()
            if choice < 0.85:
                touched[self._change(made, choice)] = None
            elif choice < 0.93 or len(self.live) < 100:
                touched[self._create(made)] = None
            else:
                touched[self._remove(made)] = None
        made.rows.touches = [Touch(oid, first) for oid in touched]
        return made

    def _change(self, made: Written, choice: float) -> int:
        oid = COMMON_FILES[int(self.rng.random() ** 2 * len(COMMON_FILES))]
        made.changes += 1
        made.losses += 1
        if choice < 0.70:
            big = self.rng.random() < 0.4
            oid = BIG if big else oid
            block, lo = int(self.rng.random() * (16_384 if big else 64)), int(self.rng.random() * 16) * PAGE
            made.rows.data.append(DataWas(oid, block, self.seq, lo, lo + PAGE, 1, self.seq * PAGE, 30_000, lo % 60_000))
            self._log(made, Kind.WRITE, oid, b"o%d" % oid, block * 65_536 + lo, PAGE)
        elif choice < 0.80:
            made.rows.metas.append(MetaWas(oid, self.seq, self.meta))
            self._log(made, Kind.SETATTR, oid, b"o%d" % oid)
        else:
            made.rows.sizes.append(SizeWas(oid, self.seq, int(self.rng.random() * GIB)))
            self._log(made, Kind.WRITE, oid, b"o%d" % oid, 0, 100)
        return oid

    def _create(self, made: Written) -> int:
        parent = BUSY if self.rng.random() < 0.5 else COMMON_DIRS[int(self.rng.random() * len(COMMON_DIRS))]
        self.oid += 1
        name = b"file-%08x.dat" % (self.oid * 2_654_435_761 % 2**32)
        self.live.append((parent, name, self.seq, self.oid))
        self.replica.names_in[parent][name] = self.oid
        made.catalog += [Object(self.oid, self.seq, Identity(1, self.oid, 0)), Home(parent, name, self.oid, self.seq)]
        made.changes += 1
        self._log(made, Kind.CREATE, self.oid, b"o%d/%s" % (parent, name), 0, 4000)
        return self.oid

    def _remove(self, made: Written) -> int:
        at = int(self.rng.random() ** 3 * len(self.live))
        self.live[at], self.live[-1] = self.live[-1], self.live[at]
        parent, name, since, oid = self.live.pop()
        del self.replica.names_in[parent][name]
        made.rows.names.append(NameWas(parent, name, since, self.seq, oid))
        made.catalog += [Left(parent, name), Home(STORE, b"%d" % oid, oid, self.seq)]
        made.changes += 1
        made.losses += 1
        self._log(made, Kind.REMOVE, oid, b"o%d/%s" % (parent, name))
        return oid

    def _log(self, made: Written, kind: Kind, oid: int, path: bytes, offset: int = 0, length: int = 0) -> None:
        made.log.append(LogRecord(self.seq, self.time_ns, 0, kind, oid, 0, path, b"", offset, length))

    def write(self, records: int) -> dict[str, float]:
        """Makes up so many records; the time of each part."""
        index_s = frame_s = 0.0
        rows = 0
        before = _written_bytes()
        while self.seq < records:
            made = self.batch()
            first = self.seq - BATCH + 1
            head = Head(first, made.log[0].time_ns, 0, BATCH, made.changes, made.losses)
            frame = Frame(head, made.log, made.rows, [(first, change) for change in made.catalog], Size())
            began = time.process_time()
            payload, size = assembled(frame, b"")
            frame_s += time.process_time() - began
            position = self.journal.append(payload)
            began = time.process_time()
            self.index.add(made.rows, made.catalog, frame._replace(size=size).batch(1, position))
            index_s += time.process_time() - began
            rows += len(made.rows)
        self.index.flush()
        os.fsync(self.journal.fd)
        for part in self.index.parts.all:
            part.seal()
        self.index.now.commit(durable=True)
        index_bytes = sum(path.stat().st_size for path in (self.base / "index").iterdir())
        return {
            "index, rows/s": rows / index_s,
            "frames without old bytes, records/s": records / frame_s,
            "index, bytes a row": index_bytes / rows,
            "index, bytes written a row": (_written_bytes() - before - self.journal.end) / rows,
            "frames without old bytes, bytes a record": self.journal.end / records,
            "partitions": len(self.index.parts.all),
        }

    # ------------------------------------------------------------------------------------------- looking into it

    def looks(self) -> dict[str, tuple[float, float]]:
        """Latencies in ms."""
        log = Log(self.index, self.journal)
        some = self.rng.choice
        span = self.time_ns - BEGIN_NS
        asks: dict[str, tuple[Callable[[], object], int]] = {
            "list a common directory": (lambda: self._past().names(Ref(some(COMMON_DIRS)), self._seq()), 200),
            "list the busiest directory": (lambda: self._past().names(Ref(BUSY), self._seq()), 30),
            "look up one name": (self._look_up, 200),
            "stat, open and read 4 KiB of the file of 1 GiB": (self._read, 200),
            "the same of a common file": (lambda: self._read(some(COMMON_FILES)), 200),
            "newest 100 changes of a common file": (lambda: _first(log.of_object(some(COMMON_FILES)), 100), 50),
            "newest 100 changes of the file of 1 GiB": (lambda: _first(log.of_object(BIG), 100), 50),
            "a page of 100 of the log, by time": (lambda: self._page(log), 200),
            "histogram of 200 bins": (lambda: log.histogram(*sorted(self._times(span))), 50),
        }
        return {name: _latency(ask, times) for name, (ask, times) in asks.items()}

    def _seq(self) -> int:
        return int(self.rng.random() * self.seq)

    def _times(self, span: int) -> tuple[int, int]:
        return BEGIN_NS + int(self.rng.random() * span), BEGIN_NS + int(self.rng.random() * span)

    def _past(self) -> Past:
        return Past(self.index, Places(self.index, self.replica), self.old)

    def _look_up(self) -> object:
        parent, name, _, _ = self.rng.choice(self.live)
        return self._past().child(Ref(parent), name, self._seq())

    def _read(self, oid: int = BIG) -> bytes:
        past, seq = self._past(), self._seq()
        root = past.root(0, seq)
        assert root is not None
        file = past.child(root, b"o%d" % oid, seq)
        assert file is not None
        was = past.stat(file, seq)
        at = int(self.rng.random() * (was.size // PAGE)) * PAGE
        return past.read(file, seq, at, at + PAGE)

    def _page(self, log: Log) -> object:
        moment = log.moment(self._times(self.time_ns - BEGIN_NS)[0])
        return moment and _first(log.before(moment.seq + 1), 100)

    # ------------------------------------------------------------------------------------------- merging, planning

    def merge(self) -> float:
        """Merges eight partitions at a time below a floor at 95 %, with ten marks; rows a second."""
        floor = self.seq * 95 // 100
        kept = Kept(floor, range(self.seq * 85 // 100, floor, max(1, self.seq // 100)))
        parts, seen = self.index.close_growing(), 0
        began = time.process_time()
        for at in range(0, len(parts), 8):
            old = parts[at : at + 8]
            merge = Merge(old, kept, self.index.catalog.born, old[-1].last)
            new = self.index.parts.new(old[0].first)
            for block in merge.blocks():
                put(new, block.table, block.below)
            new.seal()
            self.index.parts.discard(new)
            seen += merge.seen
        return seen / (time.process_time() - began)

    def plan(self, records: int = 20_000) -> float:
        """Plans random overwrites of 4 KiB and packs them with their old bytes; records a second."""
        planner = Planner(self.index.catalog, self.replica, self.index.catalog.next_oid)
        data, seq = bytes(PAGE), self.seq
        began = time.process_time()
        for _ in range(records // BATCH):
            changes = [Change(self._overwrite(data), self.time_ns) for _ in range(BATCH)]
            plan = planner.plan(seq + 1, changes)
            for frame in packed(plan, self.replica, 0):
                self.journal.append(frame.payload)
            seq = plan.last_seq
            planner.applied(seq)
        return records / (time.process_time() - began)

    def _overwrite(self, data: bytes) -> Record:
        at = int(self.rng.random() * (GIB // PAGE)) * PAGE
        return Record(Kind.WRITE, 0, b"o%d" % BIG, offset=at, data=data)


def _first(records: Iterable[object], count: int) -> list[object]:
    return [record for record, _ in zip(records, range(count), strict=False)]


def _latency(ask: Callable[[], object], times: int) -> tuple[float, float]:
    found = []
    for _ in range(times):
        began = time.process_time()
        ask()
        found.append((time.process_time() - began) * 1e3)
    found.sort()
    return found[times // 2], found[int(times * 0.99)]


def _written_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar")).split()[1])


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(records: int, base: Path) -> dict[str, object]:
    """All figures for so many records, in this process."""
    history = History(base)
    found: dict[str, object] = dict(history.write(records))
    found.update(history.looks())
    found["planning and packing overwrites of 4 KiB, records/s"] = history.plan()
    found["peak memory up to here, with the model's own names, MiB"] = _peak_mib()
    found["merging, rows/s"] = history.merge()
    found["peak memory at the end, MiB"] = _peak_mib()
    return found


def _cell(value: object) -> str:
    if isinstance(value, list):
        return f"{value[0]:.3f} ({value[1]:.2f}) ms"
    assert isinstance(value, float | int)
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=int, nargs="*", default=[1_000_000])
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.records[0], given.here)))
        return
    found = []
    for records in given.records:
        base = Path(tempfile.mkdtemp(prefix="history-", dir=os.environ.get("BENCH_DIR")))
        try:
            command = [sys.executable, __file__, str(records), "--here", str(base)]
            found.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
            print(f"{records:,} records: {found[-1]}", file=sys.stderr)
        finally:
            shutil.rmtree(base)
    lines = [f"| | {' | '.join(f'{records:,} records' for records in given.records)} |", "|---|" + "---|" * len(found)]
    lines += [f"| {name} | {' | '.join(_cell(each[name]) for each in found)} |" for name in found[0]]
    intro = "Written by `bench/history.py`. All times are CPU time of the process; latencies: median (99th percentile)."
    report = f"# History\n\n{intro}\n\n" + "\n".join(lines) + "\n"
    (HERE / "history.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
