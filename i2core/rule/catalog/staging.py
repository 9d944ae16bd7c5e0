"""The files for which the replica may have a staging file. When another object gets the name, the staging file is
removed."""

from __future__ import annotations

from i2core.api import Place
from i2core.rule.catalog.database import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS staging (
    root INTEGER NOT NULL, path BLOB NOT NULL, PRIMARY KEY (root, path)
) WITHOUT ROWID, STRICT;
"""


class StagingFiles:
    """The table of staging files in a catalog's database. There are few: all of them are held in memory."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._load()
        db.after_undo.append(self._load)

    def _load(self) -> None:
        self.places = {Place(root, path) for root, path in self._db.execute("SELECT root, path FROM staging")}

    def __contains__(self, place: Place) -> bool:
        return place in self.places

    def begin(self, place: Place) -> None:
        """The file gets a staging file."""
        self.places.add(place)
        self._db.execute("INSERT OR IGNORE INTO staging VALUES (?, ?)", place)

    def end(self, place: Place) -> None:
        """The staging file is published or removed."""
        self.places.discard(place)
        self._db.execute("DELETE FROM staging WHERE root = ? AND path = ?", place)

    def move(self, old: Place, new: Place) -> None:
        """The directory at `old` is at `new` now, with the staging files beneath it."""
        beneath = old.path + b"/"
        for place in [each for each in self.places if each.root == old.root and each.path.startswith(beneath)]:
            self.end(place)
            self.begin(Place(new.root, new.path + place.path[len(old.path) :]))
