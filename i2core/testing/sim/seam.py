"""Puts the simulated kernel, clock and network beneath the product, for the time of one history.

The product does not know of it. Wherever one of its modules holds ``os``, ``time``, ``random`` or one of
the few functions that make system calls of their own, it holds the simulation's instead: found by what it is, not by a
list of places, so that a new module is within from its first day. trio runs its tasks in an order that the seed
decides, and what goes to a worker thread runs at once, somewhere within a delay.
"""

from __future__ import annotations

import importlib
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from random import Random
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import attrs
import trio

from i2core.api import DriverKind, syscalls
from i2core.registry import Registry
from i2core.rule.live.dirty import DirtySet
from i2core.testing.sim.bounds import BoundedDirtySet
from i2core.testing.sim.clock import SimTime
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import running
from i2core.testing.sim.scale import LIMITS

T = TypeVar("T")
_WITHIN = ("i2core.api", "i2core.pipeline", "i2core.rule", "i2core.wire", "i2_sink_fs")
"""The packages under test."""
_MODULES = (
    "i2core.rule.work.runner",
    "i2core.rule.backup.service",
    "i2core.pipeline.scan",
    "i2_sink_fs.sink",
    "i2_sink_fs.system",
)
"""Importing these imports all of them."""


class _Slot(NamedTuple):
    """A place where a module holds something real."""

    module: ModuleType
    name: str
    real: object


@cache
def registry() -> Registry:
    """The installed plugins."""
    found = Registry.load()
    found.driver(DriverKind.SINK, "fs")
    return found


def _modules() -> list[ModuleType]:
    registry()
    for name in _MODULES:
        importlib.import_module(name)
    within = [name for name in sys.modules if name.startswith(_WITHIN)]
    return [sys.modules[name] for name in sorted(within)]


def _real() -> dict[str, object]:
    """What is replaced, by the word that `installed` knows it by."""
    sink = "i2_sink_fs"
    return {
        "os": os,
        "time": time,
        "random": random,
        "open_beneath": syscalls.open_beneath,
        "has_xattrs": syscalls.has_xattrs,
        "sync_filesystem": importlib.import_module(f"{sink}.system").sync_filesystem,
        "punch_hole": importlib.import_module(f"{sink}.system").punch_hole,
        "DirtySet": DirtySet,
        "can_chown": importlib.import_module(f"{sink}.attributes").can_chown,
    }


@cache
def slots() -> dict[str, list[_Slot]]:
    """Every place of the product that holds something to be replaced."""
    modules = _modules()
    real = {id(thing): word for word, thing in _real().items()}
    found: dict[str, list[_Slot]] = {word: [] for word in real.values()}
    for module in modules:
        for name, value in vars(module).items():
            word = real.get(id(value))
            if word is not None:
                found[word].append(_Slot(module, name, value))
    return found


@cache
def limits() -> list[tuple[_Slot, object]]:
    """Every place that holds a limit, and the limit for a small world."""
    return [
        (_Slot(module, name, vars(module)[name]), small)
        for module in _modules()
        for name, small in LIMITS.items()
        if type(vars(module).get(name)) is type(small)
    ]


@attrs.frozen(kw_only=True)
class Seam:
    """What stands in for the real things."""

    kernel: Kernel
    clock: SimTime
    chance: Random
    """Of the product's own jitter."""
    threads: Random
    """When what is handed to a worker thread runs."""
    slowness: float
    """The share of such work that takes its time."""


@contextmanager
def installed(seam: Seam, *, order: int) -> Iterator[None]:
    """The product runs on `seam` until the block ends. `order` seeds the order in which trio runs tasks that are
    ready."""
    kernel = seam.kernel
    stand_ins: dict[str, object] = {
        "os": kernel,
        "time": seam.clock,
        "random": seam.chance,
        "open_beneath": kernel.open_beneath,
        "has_xattrs": kernel.has_xattrs,
        "sync_filesystem": kernel.sync_filesystem,
        "punch_hole": kernel.punch_hole,
        "DirtySet": BoundedDirtySet,
        "can_chown": lambda: True,
    }
    places = [(slot, stand_ins[word]) for word, held in slots().items() for slot in held] + limits()
    run: Any = importlib.import_module("trio._core._run")
    thread, deterministic = trio.to_thread.run_sync, run._ALLOW_DETERMINISTIC_SCHEDULING
    try:
        for slot, stand_in in places:
            setattr(slot.module, slot.name, stand_in)
        trio.to_thread.run_sync = _inline(seam.threads, seam.slowness)  # type: ignore[assignment]
        run._ALLOW_DETERMINISTIC_SCHEDULING = True
        run._r.seed(order)
        yield
    finally:
        for slot, _ in places:
            setattr(slot.module, slot.name, slot.real)
        trio.to_thread.run_sync = thread
        run._ALLOW_DETERMINISTIC_SCHEDULING = deterministic


def _inline(chance: Random, slowness: float) -> Callable[..., Awaitable[Any]]:
    """What stands for ``trio.to_thread.run_sync``: the work is done at one moment between the call and its end."""

    async def pause() -> None:
        if chance.random() < slowness:
            await trio.sleep(chance.choice((0.001, 0.01, 0.05, 0.2, 0.8)))
        else:
            await trio.lowlevel.checkpoint()

    async def run_sync(
        work: Callable[..., T],
        *args: object,
        thread_name: str | None = None,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        borrower = object()
        if limiter is not None:
            await limiter.acquire_on_behalf_of(borrower)
        try:
            with trio.CancelScope(shield=not abandon_on_cancel):
                await pause()
                machine = running.get()
                if machine is not None:
                    machine.step()
                result = work(*args)
                await pause()
            return result
        finally:
            if limiter is not None:
                limiter.release_on_behalf_of(borrower)

    return run_sync
