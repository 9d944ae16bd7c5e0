"""What a journal tells of its segments, of marked moments, and of its room."""

from __future__ import annotations

import enum
from typing import NamedTuple

from i2core.api.journal.frames import Position


class SegmentGone(Exception):
    """The segment was replaced or dropped, and nobody leased it. Look the place up again."""


class MarkKind(enum.Enum):
    """Why a moment below the floor is kept."""

    DAY = "day"
    MONTH = "month"
    SNAPSHOT = "snapshot"
    TAG = "tag"


class Mark(NamedTuple):
    """A moment with a name: the state after all records below `next_seq`."""

    next_seq: int
    time_ns: int
    """The work node's time of the last change before it."""
    kind: MarkKind
    name: str = ""
    """Distinguishes marks of one kind at one moment: a snapshot's id, a tag."""


class Segment(NamedTuple):
    """What a segment holds."""

    number: int
    """Never used for another segment, also after a crash."""
    merged: bool
    first_frame: int
    """Number of its first frame in the chain; of a merged one: of the first frame that it replaces."""
    next_frame: int
    """Number of the frame after its last one: the next segment's first."""
    first_seq: int
    next_seq: int
    first_ns: int
    """The work node's time of its first change."""
    last_ns: int
    applied_ns: int
    """When its last frame was planned, by this node's clock."""
    size_bytes: int
    before: bytes
    """Hash of the frame before its first one (merged: before the first one that it replaces)."""
    after: bytes
    """Hash of its last frame (merged: of the last one that it replaces)."""


class Piece(NamedTuple):
    """Some bytes of a payload."""

    at: Position
    size_bytes: int


class Space(NamedTuple):
    """Room on the disk of the journal."""

    used_bytes: int
    """All segments, those that are dropped and still leased included."""
    free_bytes: int
    """What this process may still use."""
    total_bytes: int
    """Of the file system."""
    reserve_bytes: int
    """Kept back for merging; less than was asked for when the disk was too full."""
