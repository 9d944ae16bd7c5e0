"""A machine that can die: who is running, what it may write, and the moment at which it is killed.

Tasks know their machine by a context variable, which trio hands to every task that they start. Whatever a dead
machine's tasks still try to do on their way out (flush in a `finally`, close a socket) meets `Killed`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from i2core.testing.sim.disk import Inode

ANY, WRITE, SYNC, PROMISE = "any", "write", "sync", "promise"
"""Kinds of steps: `WRITE` changes a disk, `SYNC` is the beginning, or the end, of a sync, `PROMISE` the moment at which
the other end hears that something is durable."""


class Killed(BaseException):
    """The machine is dead: its code does not run any further. Not an Exception, so that nothing handles it."""


class Violation(BaseException):
    """The product broke a promise. Not an Exception either: no code under test may get over it."""


class Machine:
    """One life of a node, from its start until it is stopped or dies. `boot` is a number that changes when its power
    was cut, `realms` are the directories it may write in."""

    def __init__(self, name: str, *, boot: int = 1, wall_offset_s: float = 0.0) -> None:
        self.name = name
        self.boot = boot
        self.realms: list[Inode] = []
        self.wall_offset_s = wall_offset_s
        self.epoch = 0
        """Of a work node: its right to write."""
        self.dead = False
        self.left = 0
        """So many steps of the kind `dies_on` it has yet to live; 0: for ever."""
        self.dies_on = ANY
        self.on_death: Callable[[], None] = lambda: None

    def step(self, kind: str = ANY) -> None:
        """One more step: a system call, or a turn of a task.

        Raises:
            Killed: it was its last.
        """
        if self.dead:
            raise Killed
        if self.left and self.dies_on in (ANY, kind):
            self.left -= 1
            if not self.left:
                self.die()
                raise Killed

    def promised(self) -> None:
        """Its promise was heard: no step of its own, but it may be the moment of its death."""
        if self.left and self.dies_on == PROMISE:
            self.left -= 1
            if not self.left:
                self.die()

    def die(self) -> None:
        """Nothing that it does from here on has any effect."""
        if not self.dead:
            self.dead = True
            self.on_death()


running: ContextVar[Machine | None] = ContextVar("running", default=None)
"""Whose code runs; None: the world's, for example an application's."""
