"""What retention has to know of one history over restarts: kept in the note of its journal.

The note changes in one step with the segments, so it also has the generation of the index that belongs to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Self

import attrs

from i2core.api import Code, StopRule
from i2core.api.journal import Journal, Mark
from i2core.history.retention.kept import Kept
from i2core.history.retention.lock import Former, Lock
from i2core.history.retention.policy import Retained

_VERSION = 1


@attrs.frozen(kw_only=True)
class State:
    """Times are those of the steady clock."""

    begun_ns: int
    """When history began."""
    floor_ns: int
    floor: int = 0
    """The oldest moment from which on every one is kept: its time and its record."""
    generation: int = 0
    """Of the index that belongs to the segments (`index.switch`)."""
    lock: Lock = attrs.field(factory=Lock)

    @classmethod
    def begin(cls, now_ns: int) -> Self:
        """Of a history that begins now."""
        return cls(begun_ns=now_ns, floor_ns=now_ns)

    def encode(self) -> bytes:
        """As the note."""
        fields = {
            "version": _VERSION,
            "begun_ns": self.begun_ns,
            "floor_ns": self.floor_ns,
            "floor": self.floor,
            "generation": self.generation,
            "lock": [self.lock.age_ns, [list(each) for each in self.lock.former]],
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, note: bytes) -> Self:
        """The state again.

        Raises:
            StopRule: the note is of another version (3543), or none (3531).
        """
        try:
            fields = json.loads(note)
            if fields["version"] != _VERSION:
                cause = f"the CDP data has notes of version {fields['version']}, this software reads {_VERSION}"
                raise StopRule(cause, code=Code.CDP_VERSION, next_step="install the version that wrote it")
            age_ns, former = fields["lock"]
            return cls(
                begun_ns=fields["begun_ns"],
                floor_ns=fields["floor_ns"],
                floor=fields["floor"],
                generation=fields["generation"],
                lock=Lock(age_ns, tuple(Former(*each) for each in former)),
            )
        except (ValueError, KeyError, TypeError) as error:
            cause = "the notes of the CDP data are damaged"
            raise StopRule(cause, code=Code.CDP_DESCRIPTION, next_step="restore the CDP directory") from error

    def kept(self, marks: Iterable[Mark], pinned: Iterable[int] = ()) -> Kept:
        """Which moments can be had."""
        return Kept(self.floor, (*(mark.next_seq - 1 for mark in marks), *pinned))

    def retained(self, marks: Sequence[Mark]) -> Retained:
        """As the policy asks for it."""
        return Retained(begun_ns=self.begun_ns, floor_ns=self.floor_ns, marks=tuple(marks))


def kept_of(journal: Journal) -> Kept:
    """Which moments of the history can be had.

    Raises:
        StopRule: as `State.decode`.
    """
    return State.decode(journal.note).kept(journal.marks) if journal.note else Kept()


def generation_of(note: bytes) -> int:
    """The generation of the index that belongs to the segments; 0: retention has not run yet.

    Raises:
        StopRule: as `State.decode`.
    """
    return State.decode(note).generation if note else 0
