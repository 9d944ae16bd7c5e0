"""Tables of the index. Keys begin with what a question names and end with `until`, so one seek finds the row that
answers it: the first one above the moment that is asked for."""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """A table of rows."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def insert(self) -> str:
        """Adds a row; one that is there already is right, and stays."""
        return f"insert or ignore into {self.name} values({','.join('?' * len(self.columns))})"

    @property
    def create(self) -> str:
        """Makes the table."""
        columns = ",".join(column if column in ("name", "meta") else column + " int" for column in self.columns)
        return f"create table if not exists {self.name}({columns},primary key({','.join(self.key)})) without rowid;"


NAMES = Table("name_was", ("parent", "name", "until", "since", "oid", "fork"), ("parent", "name", "until"))
METAS = Table("meta_was", ("oid", "until", "meta"), ("oid", "until"))
SIZES = Table("size_was", ("oid", "until", "size"), ("oid", "until"))
DATA = Table(
    "data_was",
    ("oid", "block", "until", "lo", "hi", "segment", "position", "size", "skip"),
    ("oid", "block", "until", "lo"),
)
TOUCHES = Table("touch", ("oid", "frame"), ("oid", "frame"))
TABLES = (NAMES, METAS, SIZES, DATA, TOUCHES)

PARTITION = "".join(table.create for table in TABLES) + (
    "create index if not exists name_oid on name_was(oid,until);"
    "create index if not exists name_since on name_was(parent,fork,since);"
    "create index if not exists name_until on name_was(parent,fork,until);"
)

FORMAT = 1
"""Number of the format of the files: one more with each change that an older program would read wrongly. An index of
another format is none; it is made again from the journal."""

NOW = f"""
pragma user_version={FORMAT};
create table if not exists present(parent int, name, oid int, since int, primary key(parent,name)) without rowid;
create index if not exists present_oid on present(oid);
create index if not exists present_since on present(since);
create table if not exists object(oid integer primary key, born int, known int, device int, inode int, generation int);
create table if not exists batch(first_seq integer primary key, last_seq int, time int, changes int, losses int,
  segment int, position int, size int);
create index if not exists batch_time on batch(time);
create table if not exists part(file primary key, place int, first int, last int, count int) without rowid;
create table if not exists state(name primary key, value) without rowid;
"""
