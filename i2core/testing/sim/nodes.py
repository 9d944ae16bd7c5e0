"""The hosts of a world: what of them outlives one life."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from i2core.config.model import Rule
from i2core.rule.outgoing.spool import Quota
from i2core.rule.status import RuleStatus
from i2core.testing.sim.capture import SimCapture
from i2core.testing.sim.disk import Disk, Inode
from i2core.testing.sim.machine import Machine

MEMORY_BYTES = 48 * 1024
"""A work node's memory limit."""


class HeardStatus(RuleStatus):
    """Calls `heard` whenever the node was told that more is durable."""

    def __init__(self, name: str, heard: Callable[[], None]) -> None:
        self._heard = heard
        super().__init__(name=name)

    def __setattr__(self, name: str, value: object) -> None:
        grows = name == "durable_seq" and value != getattr(self, name, 0)
        super().__setattr__(name, value)
        if grows:
            self._heard()


@attrs.define(eq=False)
class Node:
    """A host that is started again whenever its life ends, until the history does."""

    name: str
    disks: list[Disk]
    machine: Machine | None = None
    """The life that it lives; None while it is down."""
    scope: trio.CancelScope | None = None
    boots: int = 1
    wall_offset_s: float = 0.0
    down_s: float = 0.0
    """How long it stays down when its life ends."""
    loses: bool = False
    """It dies by a power cut."""
    up_now: trio.Event = attrs.field(factory=trio.Event)
    """Set: it need not stay down any longer."""


@attrs.define(eq=False)
class WorkNode(Node):
    """A work node with the rule that it runs."""

    epoch: int = 1
    rule: Rule | None = None
    roots: list[Inode] = attrs.field(factory=list)
    status: RuleStatus | None = None
    memory: Quota = attrs.field(factory=lambda: Quota(MEMORY_BYTES))
    captures: list[SimCapture] = attrs.field(factory=list)
    forgets: bool = False
    """Its next life finds no state."""
    refused: bool = False
    """Another node owns the replica, and this one was told."""
