"""The index follows the journal: what its frames say is taken in, live as well as at start-up.

Live, a frame is taken in when it is durable and before its first record is carried out. `Now.reach` is the end of the
last plan that the index has as a whole. Start-up takes in the frames after it (after a power cut: those after
`Now.synced`), and then undoes what is not certain (`recovery.undo`).
"""

from __future__ import annotations

from i2core.history.index.index import Index
from i2core.history.journal.frame import unpacked


def take_in(index: Index, payload: bytes, segment: int, offset: int) -> bool:
    """A frame of the journal; its payload lies at `offset` in the segment. Taken in again, it changes nothing. True
    when its plan ends with it: `Now.reach` is never between the frames of one plan.

    Raises:
        Damaged: this is no frame of a history.
    """
    frame = unpacked(payload, segment, offset)
    index.add(frame.rows, [change for _, change in frame.catalog], frame.batch(segment, offset))
    return frame.ends_plan
