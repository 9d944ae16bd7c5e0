"""What the history consists of: rows about the past, changes of the catalog, and the log.

A row says "until seq `until`, X was Y": Y held after every record below `until` back to the row before it. So the state
at moment T, after record T was applied, is given by the row with the smallest `until` above T; if there is none, by
the replica itself. Rows are true whatever is done later, also when the record that caused them failed.
"""

from __future__ import annotations

from typing import NamedTuple

from i2core.api.present import Identity

FIRST_OID = 16
"""The first number for an object of the rule; those below are for directories that are none."""

BLOCK_BYTES = 64 * 1024
"""Rows of bytes never cross a multiple of this, so that one look finds all rows about a byte."""


class NameWas(NamedTuple):
    """In directory `parent` the name led to `oid` at the moments since <= T < until. Before `since`, and between two
    such rows, nothing had the name."""

    parent: int
    name: bytes
    since: int
    until: int
    oid: int


class MetaWas(NamedTuple):
    """Attributes of an object, as `meta.pack` packs them."""

    oid: int
    until: int
    meta: bytes


class SizeWas(NamedTuple):
    """Length of a file in bytes. What lies beyond it then has no rows: the length hides it."""

    oid: int
    until: int
    size: int


class DataWas(NamedTuple):
    """Bytes [lo, hi) of a block of a file; offsets within the block. A hole has no place (`segment` is -1)."""

    oid: int
    block: int
    """Number of the block: offset in the file // BLOCK_BYTES; of a wide hole see `Grain.number`."""
    until: int
    lo: int
    hi: int
    segment: int
    position: int
    """Where in the segment the packed chunk begins that has the bytes."""
    size: int
    """Bytes of the packed chunk."""
    skip: int
    """Where in the unpacked chunk they begin."""


HOLE = -1
"""The `segment` of a row that says: here was a hole."""


class Touch(NamedTuple):
    """The frame speaks of the object: leads from an object to its changes, newest first."""

    oid: int
    frame: int
    """The frame's first seq."""


class Home(NamedTuple):
    """Change of the catalog: from `since` on the name in `parent` leads to `oid`."""

    parent: int
    name: bytes
    oid: int
    since: int


class Left(NamedTuple):
    """Change of the catalog: the name leads nowhere any more."""

    parent: int
    name: bytes


class Object(NamedTuple):
    """Change of the catalog: an object that has a number from now on."""

    oid: int
    born: int
    """Seq of the record that made it; 0: it was there before history had to know it."""
    identity: Identity | None
    """None: it is not on the disk yet; the sink reports it when the record is carried out."""
    known: int = 0
    """The record by which it got its number. Numbers are given in the order of the records."""


CatalogChange = Home | Left | Object


class Moment(NamedTuple):
    """The state after record `seq`; 0: before the first. Several records may have one time: the seq says which."""

    time_ns: int
    """The work node's time of the change."""
    seq: int


class LogRecord(NamedTuple):
    """One applied record, for people."""

    seq: int
    time_ns: int
    applied_ns: int
    """By the backup node's clock."""
    op: int
    """`Kind` of the record, or `RESTORE`."""
    oid: int
    """The object that it changed; 0: none with a history."""
    root: int
    path: bytes
    other: bytes
    """The second path of a rename or link, or what a restored object was called in the store."""
    offset: int
    length: int
    also: tuple[int, ...] = ()
    """Other objects that it changed: one that lost this name, directories in which names came or went."""


RESTORE = 200
"""The `op` of a `Restore`: far from the kinds on the wire, for it never travels."""
