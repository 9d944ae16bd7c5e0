"""Decides who may write a target, from the positions that this node keeps. No input or output here.

A target belongs to the rule that first wrote it; the rule belongs to a peer, which is identified by its pinned
certificate. A higher epoch of the same rule takes over. Nobody else does, whatever epoch it claims, unless an
administrator of this node permits it (`Position.heir`) or frees the target (`i2 rule forget`). This applies to every
path that a peer names: moving orphans into another rule's target, or removing them from another peer's orphan
directory, would do the same harm.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Any

import attrs

from i2core.api import Code, StopRule, UsageError
from i2core.config.places import nested
from i2core.posix.path_text import as_path
from i2core.rule.backup.replica.position import Position

Key = tuple[str, str]
"""Peer and rule."""


@attrs.frozen
class Claim:
    """The targets that a greeting claims."""

    peer: str
    rule: str
    epoch: int
    targets: tuple[bytes, ...]
    aside: bytes = b""
    """Where its orphans would be moved; empty: nowhere."""
    roots: tuple[str, ...] = ()
    """`Sink.identities` of the targets, once they are open: two paths may lead to one directory."""
    flags: bool = False
    """The rule carries inode flags."""
    cdp: tuple[int, ...] = ()
    """The history that the rule wants, see `Position.cdp`; empty: none."""
    snapshot: dict[str, Any] = attrs.field(factory=dict, hash=False)
    """The snapshots that it wants, see `Position.snapshot`; empty: only those by hand."""
    zone: str = ""
    sources: tuple[str, ...] = ()
    """As in `Position`."""

    @property
    def key(self) -> Key:
        """The peer and rule that make the claim."""
        return self.peer, self.rule

    def places(self) -> tuple[bytes, ...]:
        """All directories that it would write."""
        return (*self.targets, self.aside) if self.aside else self.targets


def displaced(claim: Claim, known: Iterable[Position], busy: Collection[Key], node: str) -> list[Position]:
    """The owners whose targets the claim takes with an administrator's permission. `busy`: keys with open sessions.

    Raises: StopRule: a place belongs to another rule: 3572 when that rule writes it now, 3588 when it is not connected,
    or newer. UsageError: orphans would be moved among those of another peer (3571)."""
    found = []
    for owner in known:
        key = (owner.peer, owner.rule)
        if key == claim.key:
            continue
        theirs = [as_path(target) for target in owner.targets]
        kept = [as_path(owner.aside)] if owner.aside else []
        one = next((path for path, root in owner.identities().items() if root in claim.roots), b"")
        if place := _meet(theirs, claim.places()) or one:
            if tuple(owner.heir) != claim.key:
                raise _taken(claim, owner, place, key in busy, node)
            found.append(owner)
        elif _meet(claim.targets, kept) or (owner.peer != claim.peer and _meet((claim.aside,), kept)):
            raise UsageError(
                f"rule {claim.rule} of {claim.peer} is refused: the orphans of rule {owner.rule} of {owner.peer} are "
                "kept there",
                code=Code.ILLEGAL_PATH,
                obj=os.fsdecode(kept[0]),
                next_step="choose a directory of its own, for the target and for orphans",
            )
    return found


def _meet(mine: Iterable[bytes], theirs: Iterable[bytes]) -> bytes:
    """The first of mine that equals, contains, or is beneath one of theirs; empty when none is."""
    others = [other for other in theirs if other]
    return next((one for one in mine if one and any(nested(one, other) for other in others)), b"")


def _taken(claim: Claim, owner: Position, place: bytes, busy: bool, node: str) -> StopRule:
    head = f"rule {claim.rule} of {claim.peer} is refused: "
    shown = os.fsdecode(place)
    if busy and owner.epoch == claim.epoch:
        return StopRule(
            f"{head}rule {owner.rule} of {owner.peer} writes {shown} already",
            code=Code.DUPLICATE_TASK,
            obj=claim.rule,
            next_step="give each rule a target of its own",
        )
    return StopRule(
        f"{head}{shown} belongs to rule {owner.rule} of {owner.peer}, epoch {owner.epoch}",
        code=Code.LOCKED,
        obj=claim.rule,
        next_step=f"on {node}, if this one is to have it: i2 rule hand-over {owner.peer}/{owner.rule} --to "
        f"{claim.peer}/{claim.rule}; if nobody is: i2 rule forget {owner.peer}/{owner.rule}",
    )
