"""What is asked of a recovery."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs

from i2core.config.model import OrphanAction
from i2core.recovery.parts import Part


class Extra(enum.Enum):
    """What happens to files of the destination that the recovered state does not have."""

    KEEP = "keep"
    ASIDE = "aside"
    """They are moved to a directory beside the destination, named with the time."""
    DELETE = "delete"

    @property
    def action(self) -> OrphanAction:
        """The same in the words of a mirror."""
        return {Extra.KEEP: OrphanAction.KEEP, Extra.ASIDE: OrphanAction.MOVE, Extra.DELETE: OrphanAction.DELETE}[self]


@attrs.frozen(kw_only=True)
class Order:
    """One recovery. The caller has opened the trees of the parts, and closes them after it."""

    rule: str
    """Name of the rule, for the log and the record of recoveries."""
    moment: str
    """The moment that is recovered, as a person reads it: for the record of recoveries."""
    parts: Sequence[Part]
    extra: Extra = Extra.KEEP
    strict: bool = False
    """Contents are compared also where size and time are equal; else such files count as equal."""
    prove: bool = True
    """Afterwards all is compared once more, with its contents."""
