"""The catalog of the present: which name leads to which object, and which object of the file system that is.

It is sparse: it knows only objects with a history. It is ahead of the replica by the records that are planned and not
carried out yet: until then an object stands where it stood before, which a row tells.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from i2core.api.present import STAGING, STORE, Identity
from i2core.history.model.rows import FIRST_OID, CatalogChange, Home, Left, NameWas, Object


class Catalog:
    """The tables `present` and `object` of the index."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def change(self, changes: Iterable[CatalogChange]) -> None:
        """Carries out changes in order. Each is absolute: done again, it gives the same."""
        for change in changes:
            if isinstance(change, Home):
                self._db.execute("insert or replace into present(parent,name,oid,since) values(?,?,?,?)", change)
            elif isinstance(change, Left):
                self._db.execute("delete from present where parent=? and name=?", change)
            else:
                self.add_object(change)

    def add_object(self, found: Object) -> None:
        """An object that has a number from now on; its identity stays if it is known already."""
        device, inode, generation = found.identity or (None, None, None)
        sql = (
            "insert into object(oid,born,known,device,inode,generation) values(?,?,?,?,?,?) on conflict(oid) do update"
            " set born=excluded.born,device=coalesce(excluded.device,device),inode=coalesce(excluded.inode,inode),"
            "generation=coalesce(excluded.generation,generation)"
        )
        self._db.execute(sql, (found.oid, found.born, found.known, device, inode, generation))

    def identify(self, oid: int, identity: Identity) -> None:
        """The object is this one on disk."""
        sql = "update object set device=?,inode=?,generation=? where oid=?"
        self._db.execute(sql, (*identity, oid))

    def home(self, parent: int, name: bytes) -> tuple[int, int] | None:
        """Object and since when; see `plan.view.Known`."""
        sql = "select oid,since from present where parent=? and name=?"
        row = self._db.execute(sql, (parent, name)).fetchone()
        return row and (row[0], row[1])

    def homes(self, oid: int) -> list[tuple[int, bytes]]:
        """All names of the object."""
        return self._db.execute("select parent,name from present where oid=? order by parent,name", (oid,)).fetchall()

    def identity(self, oid: int) -> Identity | None:
        """Which object of the file system it is; None: not known."""
        row = self._db.execute("select device,inode,generation from object where oid=?", (oid,)).fetchone()
        return None if row is None or row[1] is None else Identity(*row)

    def born(self, oid: int) -> int:
        """The record that made the object; 0: it was there before."""
        row = self._db.execute("select born from object where oid=?", (oid,)).fetchone()
        return row[0] if row else 0

    def knows(self, oid: int) -> bool:
        """True when the object has a history."""
        sql = "select 1 from object where oid=?1 union all select 1 from present where oid=?1 limit 1"
        return self._db.execute(sql, (oid,)).fetchone() is not None

    def within(self, parent: int) -> list[tuple[bytes, int, int]]:
        """(name, oid, since) of all known names in a directory."""
        return self._db.execute("select name,oid,since from present where parent=?", (parent,)).fetchall()

    def kept_after(self, name: bytes, most: int) -> list[tuple[bytes, int]]:
        """(name, oid) of objects in the store, in the order of their names."""
        sql = "select name,oid from present where parent=? and name>? order by name limit ?"
        return self._db.execute(sql, (STORE, name, most)).fetchall()

    def homes_since(self, oid: int, first: int, last: int) -> Iterator[tuple[int, bytes, int]]:
        """(parent, name, since) of the object's names that began in (first, last]."""
        sql = "select parent,name,since from present where oid=? and since>? and since<=?"
        return self._db.execute(sql, (oid, first, last))

    def renamed(self, first: int, last: int) -> set[int]:
        """Objects that got a name in (first, last] which they still have."""
        sql = "select oid from present where since>? and since<=?"
        return {row[0] for row in self._db.execute(sql, (first, last))}

    def changed_since(self, seq: int) -> Iterator[tuple[int, bytes]]:
        """Names that lead to what they lead to only after the moment."""
        return self._db.execute("select parent,name from present where since>?", (seq,))

    def alone(self, oldest: int, after: int, most: int) -> list[int]:
        """Objects above `after` and outside the store with one name, had since `oldest` at least, and with none known
        in them; the first of them."""
        sql = (
            "select oid from present p where oid>? and parent>0 and since<=?"
            " and not exists(select 1 from present where parent=p.oid)"
            " and (select count(*) from present where oid=p.oid)=1 order by oid limit ?"
        )
        return [row[0] for row in self._db.execute(sql, (after, oldest, most))]

    @property
    def next_oid(self) -> int:
        """No object has this number or a larger one."""
        (most,) = self._db.execute("select max(oid) from object").fetchone()
        return max(FIRST_OID, (most or 0) + 1, self._used)

    @property
    def _used(self) -> int:
        row = self._db.execute("select value from state where name='next_oid'").fetchone()
        return row[0] if row else 0

    def forget(self, oid: int) -> None:
        """The object has no history any more; its number is never used again."""
        self._db.execute("insert or replace into state(name,value) values('next_oid',?)", (max(oid + 1, self._used),))
        self._db.execute("delete from present where oid=?", (oid,))
        self._db.execute("delete from object where oid=?", (oid,))

    def _first_unknown(self, seq: int) -> int:
        """Objects with this number or a larger one got it after the moment."""
        first = self.next_oid
        for oid, known in self._db.execute("select oid,known from object order by oid desc"):
            if known <= seq:
                break
            first = oid
        return int(first)

    def roll_back(self, seq: int, rows: Iterable[NameWas]) -> None:
        """As it was at the moment. `rows`: those about names that end after it, newest first, so that the oldest
        wins."""
        self._db.execute("delete from present where since>?", (seq,))
        for row in rows:
            if row.since <= seq:
                self.change([Home(row.parent, row.name, row.oid, row.since)])
        self._db.execute("delete from present where parent=?", (STAGING,))
        first = self._first_unknown(seq)
        self._db.execute("delete from present where oid>=?", (first,))
        self._db.execute("delete from object where oid>=?", (first,))
