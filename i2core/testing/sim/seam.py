"""Puts the simulated kernel, clock and network beneath the product, for the time of one history.

The product does not know the simulation. Each of its modules that has ``os``, ``time``, ``random`` or one of the few
functions with system calls of their own gets the simulation's instead. They are found by identity, not by a list of
places, so a new module is included from the start. trio runs its tasks in an order that the seed decides. Work for a
thread is done in one step, at some moment within a delay.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import sqlite3
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

from i2core.api import DriverKind
from i2core.history.moments.zones import local_zone_name
from i2core.posix import locks, mounts, syscalls
from i2core.registry import Registry
from i2core.rule.live.dirty import DirtySet
from i2core.testing.sim.bounds import BoundedDirtySet
from i2core.testing.sim.clock import SimTime
from i2core.testing.sim.kernel import Kernel
from i2core.testing.sim.machine import running
from i2core.testing.sim.scale import LIMITS

T = TypeVar("T")
_WITHIN = (
    "i2core.api",
    "i2core.posix",
    "i2core.drivers",
    "i2core.limits",
    "i2core.rule",
    "i2core.wire",
    *(f"i2core.history.{part}" for part in ("index", "journal", "model", "plan", "read", "record", "recovery")),
    "i2core.history.retention",
    "i2_sink_fs",
    "i2_store_cdp",
)
"""The packages under test."""
_MODULES = (
    "i2core.rule.work.runner",
    "i2core.rule.backup.service",
    "i2core.rule.backup.entry.histories",
    "i2core.drivers.scan",
    "i2_sink_fs.present.replica",
    "i2_sink_fs.sink",
    "i2_sink_fs.system",
    "i2_store_cdp.journal",
)
"""Importing these modules imports all others."""


class _Slot(NamedTuple):
    """A module attribute that is to be replaced."""

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
    """The real objects to be replaced, by the name that `installed` uses."""
    sink = "i2_sink_fs"
    return {
        "os": os,
        "time": time,
        "random": random,
        "sqlite3": sqlite3,
        "open_beneath": syscalls.open_beneath,
        "has_xattrs": syscalls.has_xattrs,
        "born_ns": syscalls.born_ns,
        "is_mount_root": syscalls.is_mount_root,
        "mount_of": mounts.mount_of,
        "read_mounts": mounts.read_mounts,
        "inode_flags": syscalls.inode_flags,
        "sync_filesystem": syscalls.sync_filesystem,
        "punch_hole": importlib.import_module(f"{sink}.system").punch_hole,
        "rename_new": importlib.import_module(f"{sink}.system").rename_new,
        "shutil": shutil,
        "local_zone_name": local_zone_name,
        "lock": locks.lock,
        "DirtySet": DirtySet,
        "can_chown": importlib.import_module(f"{sink}.attributes").can_chown,
    }


@cache
def slots() -> dict[str, list[_Slot]]:
    """All module attributes of the product that are to be replaced."""
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
    """All module attributes that are limits, with their values in a small world."""
    return [
        (_Slot(module, name, vars(module)[name]), small)
        for module in _modules()
        for name, small in LIMITS.items()
        if type(vars(module).get(name)) is type(small)
    ]


@attrs.frozen(kw_only=True)
class Seam:
    """The replacements for the real objects."""

    kernel: Kernel
    clock: SimTime
    sqlite: object
    """Replaces the module `sqlite3`."""
    chance: Random
    """For the product's own jitter."""
    threads: Random
    """Decides when work for a thread is done."""
    slowness: float
    """The share of such work that is slow."""


@contextmanager
def installed(seam: Seam, *, order: int) -> Iterator[None]:
    """The product uses `seam` during the body. `order` is the seed of the order in which trio runs tasks that are
    ready."""
    kernel = seam.kernel
    stand_ins: dict[str, object] = {
        "os": kernel,
        "time": seam.clock,
        "random": seam.chance,
        "sqlite3": seam.sqlite,
        "open_beneath": kernel.open_beneath,
        "has_xattrs": kernel.has_xattrs,
        "born_ns": kernel.born_ns,
        "is_mount_root": kernel.is_mount_root,
        "mount_of": kernel.mount_of,
        "read_mounts": kernel.read_mounts,
        "inode_flags": kernel.inode_flags,
        "sync_filesystem": kernel.sync_filesystem,
        "punch_hole": kernel.punch_hole,
        "rename_new": kernel.rename_new,
        "shutil": kernel,
        "local_zone_name": lambda: "Etc/UTC",
        "lock": kernel.lock,
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
    """Replaces ``trio.to_thread.run_sync``: the work is done at one moment between the call and its return."""

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
