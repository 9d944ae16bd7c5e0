"""What the tasks of recoveries between two nodes keep: for people, and for the daemon that takes them up."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import cattrs

from i2core.node.daemon.recovery_legs import Leg
from i2core.node.daemon.tasks import Task
from i2core.posix.path_text import as_text
from i2core.recovery.order import Extra
from i2core.wire.recovery import Recover

KIND = "recovery"


@attrs.frozen(kw_only=True)
class FromBackup:
    """A recovery from a backup node to this one, as its task keeps it."""

    backup: str
    peer: str = ""
    """The work node that the rule is received from there; empty: not named."""
    legs: list[Leg]
    to: list[str]
    """The destinations of the legs, for people."""
    at: str | None = None
    at_seq: int | None = None
    nearest: str | None = None
    snapshot: int | None = None
    extra: str = "keep"
    strict: bool = False
    prove: bool = True
    dry_run: bool = False
    stop_rule: bool = False
    stopped: list[str] = attrs.field(factory=list)
    """Rules that run again afterwards."""
    outcome: dict[str, Any] | None = None
    """Once it is recovered."""

    def order(self, rule: str, leg: Leg) -> Recover:
        """What the backup node is asked for."""
        return Recover(
            rule=rule,
            peer=self.peer,
            to=as_text(os.fsencode(leg.to)),
            root=as_text(os.fsencode(leg.root)),
            paths=[as_text(os.fsencode(path)) for path in leg.paths],
            at=self.at,
            at_seq=self.at_seq,
            nearest=self.nearest,
            snapshot=self.snapshot,
            extra=Extra(self.extra).value,
            strict=self.strict,
            prove=self.prove,
            dry_run=self.dry_run,
        )


@attrs.frozen(kw_only=True)
class ToNode:
    """A recovery from this node to a work node, as its task keeps it."""

    rule: str
    """As ``PEER/RULE``."""
    peer: str
    """The work node."""
    directory: str
    paths: list[str]
    moment: str
    """For people."""
    seq: int | None
    snapshot: int | None
    extra: str
    strict: bool
    prove: bool
    dry_run: bool


def merged(outcomes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The outcomes of several destinations, or their plans, as one: figures are summed, lists are joined."""
    found = dict(outcomes[0])
    for one in outcomes[1:]:
        for key, value in one.items():
            found[key] = _joined(key, found[key], value)
    return found


def _joined(key: str, one: Any, other: Any) -> Any:
    if key == "totals":
        return {
            what: {name: (one.get(what) or {}).get(name, 0) + (other.get(what) or {}).get(name, 0) for name in _TOTAL}
            for what in [*one, *(what for what in other if what not in one)]
        }
    if key in ("equal", "proved"):
        return None if one is None or other is None else one and other
    if key in ("to", "aside"):
        return ", ".join(each for each in (one, other) if each) or None
    if key in ("moment", "seq"):
        return one
    return one + other


_TOTAL = ("count", "size", "newer")


def kept(task: Task) -> FromBackup | ToNode | None:
    """What was asked for; None: it is no such task, or its file is damaged."""
    if task.kind != KIND:
        return None
    kind: type[FromBackup] | type[ToNode] = FromBackup if "legs" in task.asked else ToNode
    try:
        found: FromBackup | ToNode = cattrs.structure(task.asked, kind)
        return found
    except (ValueError, TypeError, KeyError, AttributeError, cattrs.BaseValidationError):
        return None
