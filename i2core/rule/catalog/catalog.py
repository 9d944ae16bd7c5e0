"""The catalog: what the replica holds, as last sent. On disk, so memory does not grow with the tree.

It is looked up by name (what was sent for this path? `objects`) and by inode (under which names was this object sent?
`names`). The latter turns a changed tree into renames and links without trusting the order of events. The catalog also
has digests of large files, doubts, and the rule's memory of its runs. It belongs to one rule; its calls block and are
made by one worker at a time. Only facts in `memory` may be noted by any thread at any time.

All parts share one database, and one unit of work is kept as a whole or not at all: see
`i2core/rule/catalog/database.py`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from i2core.rule.catalog import digests, doubts, inodes, listings, memory, objects, staging
from i2core.rule.catalog.database import Database
from i2core.rule.catalog.digests import Digests
from i2core.rule.catalog.doubts import DoubtTable
from i2core.rule.catalog.inodes import Inodes
from i2core.rule.catalog.listings import Listings
from i2core.rule.catalog.memory import MemoryTable
from i2core.rule.catalog.object_names import ObjectNames
from i2core.rule.catalog.objects import Objects
from i2core.rule.catalog.paths import PathCache
from i2core.rule.catalog.staging import StagingFiles

_VERSION = 5
"""Version of the tables: a file of another version is replaced by an empty one."""
_SCHEMA = "".join(part.SCHEMA for part in (objects, listings, memory, doubts, staging, digests, inodes))


class Catalog:
    """The catalog of one rule in the file `path`; None keeps it in a temporary file that is gone at close.

    Raises:
        sqlite3.DatabaseError: the file is damaged, or another program has it open.
    """

    def __init__(self, path: Path | None) -> None:
        self._db = Database(path, _SCHEMA, _VERSION)
        try:
            self._make_parts(self._db)
        except BaseException:
            self._db.close(clean=False)  # if it stayed open, the next attempt would find it locked
            raise

    def _make_parts(self, db: Database) -> None:
        self.memory = MemoryTable(db)
        self.digests = Digests(db)
        inodes = Inodes(db, self.digests)
        self.listings = Listings(db)
        self.staging = StagingFiles(db)
        self._paths = PathCache()
        db.after_undo.append(self._paths.clear)
        self.objects = Objects(db, self._paths, self.listings, self.staging, inodes, self.digests)
        self.names = ObjectNames(db, self.objects, self.listings, inodes, self.digests)
        self.doubts = DoubtTable(db, self.objects, inodes, self.digests)

    def unit(self) -> AbstractContextManager[None]:
        """A unit of work: see `Database.unit`."""
        return self._db.unit()

    def commit(self) -> None:
        """See `Database.commit`."""
        self._db.commit()

    def close(self, *, clean: bool) -> None:
        """See `Database.close`."""
        self._db.close(clean=clean)

    def clear(self) -> None:
        """Forgets all objects and doubts: the content of the replica is unknown."""
        for table in ("node", "inode", "blocks", "listing", "doubt"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (constants)
        self._paths.clear()
