"""A machine that can die: which code runs on it, where it may write, and when it is killed.

Tasks find their machine by a context variable, which trio passes on to every task that they start. Whatever the tasks
of a dead machine still try to do at their end (flush in a `finally`, close a socket) raises `Killed`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from i2core.testing.sim.inode import Inode

ANY, WRITE, SYNC, PROMISE = "any", "write", "sync", "promise"
"""Kinds of steps: `WRITE` changes a disk, `SYNC` is the beginning or the end of a sync, `PROMISE` the moment at which
the other end receives the report that something is durable."""


class Killed(BaseException):
    """The machine is dead: its code does not run any further. Not an Exception, so that no code handles it."""


class Violation(BaseException):
    """The product broke a promise. Not an Exception either: no code under test may handle it."""


class Machine:
    """One life of a node, from its start until it is stopped or dies. `boot` changes with each power cut, `realms` are
    the directories in which it may write."""

    def __init__(self, name: str, *, boot: int = 1, wall_offset_s: float = 0.0) -> None:
        self.name = name
        self.boot = boot
        self.realms: list[Inode] = []
        self.stores: list[Inode] = []
        """Directories in which it may make one for what its histories keep, and write in that one, but nowhere else."""
        self.wall_offset_s = wall_offset_s
        self.epoch = 0
        """For a work node: its epoch, the right to write."""
        self.state = 1
        """For a work node: the number of its state; another one if it may lack what lives before have noted."""
        self.dead = False
        self.left = 0
        """Number of steps of the kind `dies_on` until it dies; 0: it does not die."""
        self.dies_on = ANY
        self.on_death: Callable[[], None] = lambda: None

    def step(self, kind: str = ANY) -> None:
        """Counts a step: a system call, or a switch to a task.

        Raises:
            Killed: it was the last one.
        """
        if self.dead:
            raise Killed
        if self.left and self.dies_on in (ANY, kind):
            self.left -= 1
            if not self.left:
                self.die()
                raise Killed

    def promised(self) -> None:
        """The other end received its report that something is durable. This is not a step of this machine, but it may
        die at this moment."""
        if self.left and self.dies_on == PROMISE:
            self.left -= 1
            if not self.left:
                self.die()

    def die(self) -> None:
        """From now on, nothing that its code does has any effect."""
        if not self.dead:
            self.dead = True
            self.on_death()


running: ContextVar[Machine | None] = ContextVar("running", default=None)
"""The machine whose code runs; None: code of the world, an application for example."""
