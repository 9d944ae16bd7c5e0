"""The snapshots of one rule, as values: what is noted of each, and how it is written down.

    TAKING ──▶ KEPT ──▶ REMOVING ──▶ (no entry)
       └────────────────────────────────▲

An entry is durable before the store begins to take or to remove. So whatever a crash leaves has an entry that says what
is to be done about it: what is not `KEPT` is removed at the next start.
"""

from __future__ import annotations

import enum
import json
from typing import Any, Self

import attrs
import cattrs

MOST = 64
"""Snapshots of one rule."""
TAG_CHARS = 100


class State(enum.Enum):
    """How far a snapshot is."""

    TAKING = "taking"
    KEPT = "kept"
    REMOVING = "removing"


@attrs.frozen(kw_only=True)
class Snapshot:
    """One snapshot. Times in nanoseconds since the epoch."""

    ident: int
    """The number by which people name it; never used again in this rule."""
    name: str
    """Its name in the store; never used again at all."""
    store: str
    """The driver that has it."""
    state: State = State.TAKING
    tag: str = ""
    taken_ns: int = 0
    """When it was taken, by the clock of the backup node."""
    seq: int = 0
    """The last record in it, as the rule's status counts."""
    moment: int | None = None
    """The same by the count of the replica's history (``i2 cdp log``); None: it has none."""
    changed_ns: int | None = None
    """The work node's time of the last change in it; None: records carry no time without a history."""
    slot_ns: int | None = None
    """The time of the schedule for which it was taken; None: it was taken by hand."""
    mirroring: bool = False
    """A mirror was under way: the state is one that the source never had."""

    @property
    def is_automatic(self) -> bool:
        """True when the schedule has taken it, and may remove it."""
        return self.slot_ns is not None


@attrs.frozen(kw_only=True)
class Catalog:
    """All of one rule, oldest first."""

    next_ident: int = 1
    since_ns: int = 0
    """When the rule's schedule was first known; 0: it was never."""
    snapshots: tuple[Snapshot, ...] = ()

    def get(self, ident: int) -> Snapshot | None:
        """The one with this number."""
        return next((each for each in self.snapshots if each.ident == ident), None)

    def with_entry(self, entry: Snapshot) -> Catalog:
        """With this entry in the place of the one that has its number, or as a new one."""
        others = tuple(each for each in self.snapshots if each.ident != entry.ident)
        snapshots = tuple(sorted((*others, entry), key=lambda each: each.ident))
        return attrs.evolve(self, snapshots=snapshots, next_ident=max(self.next_ident, entry.ident + 1))

    def without(self, ident: int) -> Catalog:
        """Without the entry of this number."""
        return attrs.evolve(self, snapshots=tuple(each for each in self.snapshots if each.ident != ident))

    @property
    def kept(self) -> tuple[Snapshot, ...]:
        """Those that are complete."""
        return tuple(each for each in self.snapshots if each.state is State.KEPT)

    @property
    def unsettled(self) -> tuple[Snapshot, ...]:
        """Those that a crash, or an error, has left half taken or half removed."""
        return tuple(each for each in self.snapshots if each.state is not State.KEPT)

    def encode(self) -> bytes:
        """As one line of text."""
        fields: dict[str, Any] = cattrs.unstructure(self)
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """The catalog again.

        Raises:
            ValueError: the text is none.
        """
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise TypeError("no table")  # noqa: TRY301
            return cattrs.structure(fields, cls)
        except (TypeError, KeyError, cattrs.BaseValidationError) as error:
            raise ValueError("no catalog of snapshots") from error
