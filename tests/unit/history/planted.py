"""Bugs as a hurried change might make them: each must be found by a life. A test that no bug fails proves nothing.

python -m tests.unit.history.planted NAME FIRST COUNT    plays these lives with the bug; fails when it is found
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

PACKAGE = "i2core.history."
RECORDED, THINNED = "recorded_lives", "thinned"


class Bug(NamedTuple):
    """One change of the source."""

    module: str
    right: str
    wrong: str
    seed: int
    """The first life that finds it."""
    lives: str = "lives"
    """The module whose lives find it."""


BUGS = {
    "no hole rows over whole blocks": Bug(
        "plan.view", "start, end = lo // step * step, min(size, -(-hi // step) * step)", "start, end = lo, hi", 2
    ),
    "no row for the hole at the old end": Bug(
        "plan.contents", "if end > size and size % hole and lo // hole <= size // hole:", "if False:", 6
    ),
    "largest until instead of smallest": Bug(
        "index.questions",
        "oid=? and block=? and until>? order by until",
        "oid=? and block=? and until>? order by until desc",
        0,
    ),
    "a row holds at its own end": Bug(
        "index.questions", "fork=? and until>? and since<=?", "fork=? and until>=? and since<=?", 0
    ),
    "the node of an interval that begins at it is missed": Bug(
        "index.fork", "before = max(since, 1) - 1", "before = since", 0
    ),
    "set aside although it has other names": Bug(
        "plan.capture", "if not thing.homes and not stays:", "if not stays:", 107
    ),
    "no look for hard links at the beginning": Bug("plan.enrol", "if facts.links > 1:", "if facts.links > 99:", 50),
    "an object that gets a number is not in the catalog": Bug(
        "plan.capture", "self.step.catalog.append(Home(parent, name, self._oid(thing), since))", "pass", 0
    ),
    "rename over leaves no row": Bug("plan.naming", "            capture.leave(*target, new)\n", "", 0),
    "no time is kept when content changes": Bug("plan.capture", "if oid not in self.touched:", "if False:", 0),
    "length kept only when the file grows": Bug(
        "plan.capture", "if size != thing.content.size:", "if size > thing.content.size:", 0
    ),
    "old bytes of a write are not kept": Bug(
        "plan.contents", "            capture.save(thing, lo, end, record.data)\n", "", 1
    ),
    "old bytes that seem to stay the same are left out": Bug(
        "journal.packing", "!= now[at : at + page]]", "!= now[at : at + page] and at]", 1
    ),
    "old bytes of a hole are not kept": Bug("plan.contents", "            capture.save(thing, lo, hi)\n", "", 0),
    "bytes that are on their way are forgotten": Bug(
        "plan.view", "thing.content.applied(seq)", "thing.content.applied(1 << 62)", 21
    ),
    "a staging file that may be gone is taken for there": Bug(
        "plan.staging", "if self._unsure.get(", "if 0 and self._unsure.get(", 1
    ),
    "merging ignores marks": Bug(
        "retention.kept", "return at < len(self.marks) and self.marks[at] < until", "return False", 0
    ),
    "merging forgets partial rows": Bug(
        "retention.merge", "self._pieces = sorted(rest)", "self._pieces = [(0, 1 << 20, until)]", 0
    ),
    "sweeping does not rescue": Bug(
        "retention.sweep", "elif self._index.rows.is_named_elsewhere(child, oid):", "elif False:", 455
    ),
    "the catalog forgets too early": Bug("index.catalog", "parent>0 and since<=?", "parent>0 and since<=?+9", 0),
    "start-up: the newest row wins": Bug(
        "recovery.undo",
        "in self._index.rows.ended(DATA, self._seq):",
        "in reversed(list(self._index.rows.ended(DATA, self._seq))):",
        4,
    ),
    "start-up: lengths stay": Bug("recovery.undo", "self._replica.truncate(handle, size)", "pass", 0),
    "start-up: attributes stay": Bug("recovery.undo", "self._replica.set_meta(handle, unpack(meta))", "pass", 0),
    "start-up: nothing is set aside": Bug(
        "recovery.undo",
        "self._replica.move(directory, name, store, limbo(oid))",
        "self._replica.remove(directory, name)",
        0,
    ),
    "start-up: the index is not rolled back": Bug(
        "index.catalog",
        '"delete from present where since>?", (seq,)',
        '"delete from present where since>?", (1 << 62,)',
        0,
    ),
    "turning back: names in the store have no rows": Bug(
        "plan.capture",
        "        if slot.since < self.step.seq:\n",
        "        if slot.since < self.step.seq and parent:\n",
        0,
    ),
    "turning back: names in directories from the store stay": Bug(
        "rewind.rewind", "        yield from self._removals()  # of names", "        # of names", 14
    ),
    "a failed record: a name that stayed begins anew": Bug(
        "recovery.failed",
        "if home is None or (parent, name, home[0]) not in [change[:3] for change in found]:",
        "if True:",
        93,
    ),
    "a failed record: the catalog is as planned": Bug(
        "recovery.failed", "            changes += found\n", "            pass\n", 6
    ),
    "a failed record: its frame has the catalog as planned": Bug(
        "journal.packing", " + [(failed, one) for one in corrections]", "", 6
    ),
    "a failed record: what was planned after it stays": Bug(
        "index.index",
        "self.catalog.roll_back(seq, list(self.rows.names_ended(seq)))\n        self.now.reach",
        "self.now.reach",
        4,
    ),
    "readers take the catalog for what stands": Bug(
        "read.places", "yield from self._index.rows.places(oid)", "pass", 0
    ),
    "a tree: an open object keeps the number that it had": Bug(
        "read.tree",
        "ref = self._ref(reading)\n            data = ",
        "ref = Ref(self._own.ino if self._own.ino < _SINGLE else 0, self._handle)\n            data = ",
        0,
    ),
    "a tree: the number is that of the present": Bug(
        "read.past", "row = self.index.rows.name(oid, name, seq)\n", "row = None\n", 0
    ),
    "a tree: the inode number is that of the object": Bug("read.tree", "if links > 1:", "if oid:", 1),
    "a tree: names in removed directories are counted": Bug(
        "read.tree", "self.paths.of_name(parent, name) is not None", "True", 23
    ),
    "a tree: a hole at the beginning of a range is data": Bug("read.tree", "if lo > at:", "if lo >= at:", 0),
    "a tree: the rest of a hole is forgotten": Bug("read.past", "if here[at].hi > z:", "if False:", 0),
    "a tree: a name that came later is listed": Bug("read.past", "found.pop(name, None)", "pass", 0),
    "a tree: a file without rows in the newest partition has none": Bug(
        "index.past_rows",
        "any(part.ask.has_data(oid, seq) for part in self.after(seq))",
        "self._every()[-1].ask.has_data(oid, seq)",
        0,
    ),
    "recording: what broke off is taken for carried out": Bug(
        "record.settling", "self.ended = self.in_doubt = True", "self.ended = True", 0, RECORDED
    ),
    "recording: who made what is not in a frame": Bug(
        "record.settling", "self._writer.owed.append(Object(", "list().append(Object(", 6, RECORDED
    ),
    "recording: an object of a record in doubt is not looked up": Bug(
        "record.settling", "self._identify(before, carried, places, last)", "pass", 44, RECORDED
    ),
    "recording: an object is sought where a record in doubt brings it": Bug(
        "record.settling",
        '[(STORE, b"%d" % step.oid), *before, *self._index.catalog.homes(step.oid)]',
        "self._index.catalog.homes(step.oid)",
        698,
        RECORDED,
    ),
    "recording: a failed record leaves its plan whole": Bug(
        "record.settling",
        "        if carried.ended:\n            corr",
        "        if False:\n            corr",
        0,
        RECORDED,
    ),
    "recording: what was planned in vain stays in the index": Bug(
        "record.settling",
        "await self._writer.turn(partial(self._writer.give_up, written, written.plan.first_seq - 1))",
        "pass",
        6,
        RECORDED,
    ),
    "recording: frames that were withdrawn stay": Bug(
        "record.writing",
        "            await self._journal.cut(written.frames[0].at)\n",
        "            pass\n",
        4,
        RECORDED,
    ),
    "recording: rows of a frame that was written again stay": Bug(
        "record.writing",
        "await self.turn(partial(self._index.drop_after, written.plan.first_seq - 1))",
        "pass",
        0,
        RECORDED,
    ),
    "recording: old bytes that went ahead are forgotten": Bug(
        "record.writing", "await self.turn(partial(self._add_rows, again))", "pass", 44, RECORDED
    ),
    "recording: what is owed goes with the plan that was written ahead": Bug(
        "record.settling", "if ahead is not None and carried.ended:", "if False:", 186, RECORDED
    ),
    "recording: what was written ahead stays when the plan before it fails": Bug(
        "record.recorder", "None if carried.ended else ahead.written", "ahead.written", 0, RECORDED
    ),
    "recording: what is written ahead begins with the plan that is carried out": Bug(
        "record.recorder", "written.plan.last_seq + 1, rest", "written.plan.first_seq, rest", 0, RECORDED
    ),
    "recording: the durable position has no frame with what was made": Bug(
        "record.planning", "        if self._writer.owed:\n", "        if False:\n", 0, RECORDED
    ),
    "opening: the journal is not cut": Bug(
        "record.opening", "await journal.cut(self._after(durable))", "pass", 1, RECORDED
    ),
    "opening: nothing is undone": Bug(
        "record.opening", "if has_tail or index.now.reach", "if False and index.now.reach", 1, RECORDED
    ),
    "opening: after a power cut all of the index is believed": Bug(
        "record.opening", 'now.reach if now.state("boot") == boot else now.synced', "now.reach", 14, RECORDED
    ),
    "opening: rows of other frames stay": Bug(
        "record.opening", "await in_thread(index.go_on_after, next_seq - 1)", "pass", 131, RECORDED
    ),
    "a partition that is missing is made again, empty": Bug(
        "index.partitions", "        self._check_files()\n", "", 14, RECORDED
    ),
    "no mark is set": Bug(
        "retention.promise", "partial(journal.mark, change.add, change.remove)", "partial(journal.mark)", 0, THINNED
    ),
    "the floor passes what is durable": Bug(
        "retention.promise", "max(self._held.durable.seq, self.state.floor)", "1 << 40", 0, THINNED
    ),
    "the journal's note has the old generation": Bug(
        "retention.joint",
        "            state = attrs.evolve(state, generation=reached)\n            await",
        "            await",
        0,
        THINNED,
    ),
    "the index is taken back although the journal has changed": Bug(
        "index.switch", "reached >= pending.generation", "reached > pending.generation", 0, THINNED
    ),
    "start-up removes partitions that are to take their place": Bug(
        "index.partitions", "known |= {part.file for part in pending.new}", "pass", 10, THINNED
    ),
    "old bytes are taken from the beginning of their chunk": Bug(
        "retention.carry", "chunk[row.skip : row.skip + row.hi - row.lo]", "chunk[: row.hi - row.lo]", 1, THINNED
    ),
    "rows keep the places that their bytes had": Bug(
        "retention.carry", "moved += await self._write(packed)", "moved += some; await self._write(packed)", 1, THINNED
    ),
    "rows above the cut are forgotten": Bug("retention.joint", "put(self.upper, table, above)", "pass", 0, THINNED),
    "marks protect nothing": Bug(
        "retention.promise",
        "self.state.kept(self._held.journal.marks, self._held.pins",
        "self.state.kept((), self._held.pins",
        0,
        THINNED,
    ),
}


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with the bug in it."""

    bug: Bug

    def get_data(self, path: str) -> bytes:
        source = super().get_data(path)
        if not path.endswith(".py"):
            raise OSError  # compiled before, without the bug
        right, wrong = self.bug.right.encode(), self.bug.wrong.encode()
        assert right in source, "the source has changed: change the bug as well"
        return source.replace(right, wrong)

    def set_data(self, *args: object, **kwargs: object) -> None:
        """Leaves nothing compiled with the bug behind."""


class _Planter(importlib.abc.MetaPathFinder):
    """Finds the module of the bug."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != PACKAGE + self._bug.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        assert spec is not None and spec.origin is not None
        loader = _Loader(fullname, spec.origin)
        loader.bug = self._bug
        spec.loader = loader
        return spec


def play(name: str, first: int, count: int) -> None:
    """Plays lives with the bug. To be called in a process of its own."""
    sys.meta_path.insert(0, _Planter(BUGS[name]))
    lives = importlib.import_module(f"{__package__}.{BUGS[name].lives}")  # after the bug is planted
    for seed in range(first, first + count):
        lives.live(seed)


if __name__ == "__main__":
    play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
