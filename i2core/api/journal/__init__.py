"""The history of one replica as durable bytes: the contract of a journal, and the format of its frames.

A journal is a chain of frames. What they say is the caller's matter; the journal keeps them in order, whole, and proved
by hashes. Frames lie in **segments**. Frames are appended to the last one; a run of older ones may be replaced by one
**merged** segment, or dropped.

    oldest                                                        newest
    ┌─────────────────┐┌──────────┐┌──────────┐┌──────────────────
    │ merged: 7       ││ 4        ││ 5        ││ 8: frame frame …     ← append
    └─────────────────┘└──────────┘└──────────┘└──────────────────
    replaces 1-3        its seal stands in a MERGE frame of 8

Which segments there are, with marks and the caller's note, changes in one step: after a crash all of a change is there
or nothing of it.

A driver implements `Journal`. The format is in `frames` and `chain`, and what proves a journal in `faults`, so that
these are the same in every driver.

`i2core.api` does not import this package: who protects no history does not load it.
"""

from i2core.api.journal.contract import Journal, JournalContext, JournalFull, Merge, all_frames
from i2core.api.journal.faults import Fault, FaultKind, Inspection, find_faults
from i2core.api.journal.frames import Draft, Frame, Header, Placed, Position, Seal, Tip
from i2core.api.journal.segments import Mark, MarkKind, Piece, Segment, SegmentGone, Space

__all__ = [
    "Draft",
    "Fault",
    "FaultKind",
    "Frame",
    "Header",
    "Inspection",
    "Journal",
    "JournalContext",
    "JournalFull",
    "Mark",
    "MarkKind",
    "Merge",
    "Piece",
    "Placed",
    "Position",
    "Seal",
    "Segment",
    "SegmentGone",
    "Space",
    "Tip",
    "all_frames",
    "find_faults",
]
