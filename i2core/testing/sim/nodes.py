"""The hosts of a world: the state that outlives one life."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from i2core.config.model import Rule
from i2core.rule.life.status import RuleStatus
from i2core.rule.outgoing.spool import Quota
from i2core.testing.sim.capture import SimCapture
from i2core.testing.sim.disk import Disk
from i2core.testing.sim.inode import Inode
from i2core.testing.sim.machine import Machine

MEMORY_BYTES = 48 * 1024
"""A work node's memory limit."""


class WatchedStatus(RuleStatus):
    """Calls `heard` whenever the node learned that more is durable."""

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
    """A host that is started again after each life, until the history ends."""

    name: str
    disks: list[Disk]
    machine: Machine | None = None
    """Its present life; None while it is down."""
    scope: trio.CancelScope | None = None
    tasks: trio.Nursery | None = None
    """For what else is done in its present life; of a backup node."""
    boots: int = 1
    wall_offset_s: float = 0.0
    down_s: float = 0.0
    """How long it stays down after a life."""
    loses: bool = False
    """The end of its life is a power cut."""
    meanwhile: list[Callable[[], None]] = attrs.field(factory=list)
    """Called as soon as it is down: what somebody changes on it then."""
    up_now: trio.Event = attrs.field(factory=trio.Event)
    """Set when it may start again."""


@attrs.define(eq=False)
class WorkNode(Node):
    """A work node with the rule that it runs."""

    epoch: int = 1
    rule: Rule | None = None
    roots: list[Inode] = attrs.field(factory=list)
    status: RuleStatus | None = None
    memory: Quota = attrs.field(factory=lambda: Quota(MEMORY_BYTES))
    captures: list[SimCapture] = attrs.field(factory=list)
    flips: bool = False
    """Bits of its files flip before its next life."""
    forgets: bool = False
    """Its next life finds no state."""
    states: int = 1
    """How many states it has had: a power cut, damage, or somebody who removes its state, leaves it another one."""
    refused: bool = False
    """Another node owns the replica, and this one knows it."""
