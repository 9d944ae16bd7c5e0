"""One record with all that is lost by it: what planning makes and the sink carries out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import attrs

from i2core.api.present import Handle, Present
from i2core.api.records import Buffer, Record
from i2core.history.model.rows import RESTORE, CatalogChange, MetaWas, NameWas, SizeWas


class Restore(NamedTuple):
    """A record of the history's own, never on the wire: the object that lies at `kept` in the store gets a name."""

    root: int
    path: bytes
    kept: bytes
    """Path within the store; the first name in it is the number of a kept object."""
    time_ns: int = 0
    """As in `Record`."""


class Change(NamedTuple):
    """What planning is given: a record and when the work node saw the change."""

    record: Record | Restore
    time_ns: int


class OldPart(NamedTuple):
    """Where some old bytes of a file are now."""

    lo: int
    hi: int
    source: Handle | Buffer | None
    """Open object, offsets being those in the file; bytes that a planned record will have written; None: zeros."""


class Old(NamedTuple):
    """Old content of [lo, hi) in a block of a file, to become a `DataWas`."""

    oid: int
    block: int
    lo: int
    hi: int
    parts: Sequence[OldPart] | None
    """None: a hole."""
    new: Buffer = b""
    """What the record writes there, as long as [lo, hi); empty: not known."""

    def read(self, present: Present) -> bytes:
        """The bytes. To be called before the record is carried out."""
        found = []
        for lo, hi, source in self.parts or ():
            if source is None:
                found.append(bytes(hi - lo))
            elif isinstance(source, int):
                data = present.read(source, lo, hi)
                found.append(data + bytes(hi - lo - len(data)))
            else:
                found.append(bytes(source))
        return b"".join(found)


@attrs.define
class Step:
    """A planned record.

    The sink carries out the record, and where it would remove an object, does as `keeps` says: an object at one of
    these paths is moved into the store, under its number; one at any other path has more names and only loses this one.
    """

    seq: int
    change: Change
    oid: int = 0
    """The object that it is about; 0: none with a history."""
    made: int = 0
    """The object that it makes; the sink tells its identity when it is made."""
    names: list[NameWas] = attrs.field(factory=list)
    metas: list[MetaWas] = attrs.field(factory=list)
    sizes: list[SizeWas] = attrs.field(factory=list)
    data: list[Old] = attrs.field(factory=list)
    catalog: list[CatalogChange] = attrs.field(factory=list)
    keeps: dict[bytes, int] = attrs.field(factory=dict)
    touched: set[int] = attrs.field(factory=set)
    """Objects that it changes."""
    length: int = 0
    """Bytes that it writes or clears, for the log."""

    @property
    def record(self) -> Record | Restore:
        """What is to be carried out."""
        return self.change.record

    @property
    def op(self) -> int:
        """As in `LogRecord`."""
        return RESTORE if isinstance(self.record, Restore) else int(self.record.kind)

    @property
    def loses(self) -> bool:
        """Something of an earlier state cannot be seen on the replica any more."""
        return bool(self.names or self.metas or self.sizes or self.data)
