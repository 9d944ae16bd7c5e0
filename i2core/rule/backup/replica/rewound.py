"""That an administrator has turned a replica back, as its position keeps it: until its work node may write again.

under way ──turned──▶ held ──released──▶ compared: forgotten
    ▲ └───────released, or begun again──▲
    └── a crash: goes on at the next start
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple


class Stage(enum.IntEnum):
    """How far it is."""

    UNDER_WAY = 0
    """The replica is somewhere between two moments."""
    HELD = 1
    """It is turned back, and stays so until somebody releases it."""
    RELEASED = 2
    """The work node may write, and has to compare everything first, with contents."""


class Rewound(NamedTuple):
    """To which moment, and how far that is."""

    seq: int
    time_ns: int
    """The time of the moment, by the work node's clock."""
    stage: Stage

    @classmethod
    def of(cls, kept: Sequence[int]) -> Rewound | None:
        """From `Position.rewind`."""
        if not kept:
            return None
        seq, time_ns, stage = kept
        return cls(seq, time_ns, Stage(stage))

    @property
    def holds(self) -> bool:
        """The work node may not write."""
        return self.stage is not Stage.RELEASED
