"""A rule's memory of its runs: the facts that decide whether the next run resumes or compares everything.

They are in the catalog's database, and are read and written only here. `i2core/rule/work/resume.py` decides what
follows from them. Unlike rows, they may be noted at any time and by any thread. An undone unit of work does not undo
them: each fact is true, whatever happened to the unit.
"""

from __future__ import annotations

import threading
from typing import TypedDict, Unpack

import attrs

from i2core.rule.catalog.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID, STRICT;
"""


@attrs.frozen(kw_only=True)
class RuleMemory:
    """The facts. The names are those in the database."""

    boot: int | None = None
    """The boot of the operating system in which the catalog was last written; None: not known."""
    mirrored: bool = False
    """A mirror was completed, and nothing since shows that the replica is another one."""
    selection: int | None = None
    """Digest of the rule's selection, node and epoch when the replica was mirrored."""
    distrusted: bool = False
    """Files of the replica may have the right size and time but not the right content."""
    left_out: bool = False
    """An object was left out since the last mirror began; the obstacle may be gone now."""
    outgrown: bool = False
    """A run ended because the replica's disk was full, and no run since has made room there."""
    seed_checked: bool = False
    """The contents of a replica that was filled by hand were compared once."""
    next_seq: int | None = None
    """The seq of the next record, as last noted; None: no record was numbered."""
    durable_seq: int = 0
    """The records up to this seq are durable on the replica."""
    record_ns: int = 0
    """The time of the last record, as last noted; 0: records had no times."""


class Facts(TypedDict, total=False):
    """The facts to be changed."""

    boot: int
    mirrored: bool
    selection: int
    distrusted: bool
    left_out: bool
    outgrown: bool
    seed_checked: bool
    next_seq: int
    durable_seq: int
    record_ns: int


_FLAGS = frozenset({"mirrored", "distrusted", "left_out", "outgrown", "seed_checked"})


class MemoryTable:
    """The table of facts in a catalog's database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = threading.Lock()
        """Held briefly while facts are noted or copied to be saved."""
        self._unsaved: set[str] = set()
        known = {field.name for field in attrs.fields(RuleMemory)}
        found = {key: value for key, value in db.execute("SELECT key, value FROM fact") if key in known}
        self.now = RuleMemory(**{key: value == 1 if key in _FLAGS else value for key, value in found.items()})
        """The present facts."""
        self._noted = set(found)
        db.before_commit.append(self._save)
        db.after_undo.append(self._undone)
        db.unsaved = lambda: bool(self._unsaved)

    def note(self, **facts: Unpack[Facts]) -> None:
        """Notes facts, which the next commit writes."""
        with self._lock:
            self.now = attrs.evolve(self.now, **facts)
            self._unsaved.update(facts)
            self._noted.update(facts)

    def keep(self, **facts: Unpack[Facts]) -> None:
        """As `note`, and written at once, or with the running unit of work."""
        self.note(**facts)
        self._db.commit_soon()

    def _save(self) -> None:
        with self._lock:
            now, names = self.now, sorted(self._unsaved)
            self._unsaved.clear()
        if names:
            values = ((name, int(getattr(now, name))) for name in names)
            self._db.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", values)

    def _undone(self) -> None:
        with self._lock:
            self._unsaved.update(self._noted)
