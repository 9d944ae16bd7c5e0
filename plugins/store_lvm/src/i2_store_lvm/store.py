"""The store: an LVM snapshot of each volume that the replica is on.

    i2snap-NAME-0      of the first volume; made last and removed first: with it the snapshot is complete
    i2snap-NAME-1 …    of the others

LVM makes and removes each in one step, and freezes the file system meanwhile. All have the tag of their replica. For
readers they are mounted read-only, in a directory that only root can enter.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from hashlib import blake2b

import trio

from i2_store_lvm.commands import Failed, run
from i2_store_lvm.config import LvmConfig
from i2_store_lvm.origins import OPTIONS, Origin, Unfit, find_origins
from i2_store_lvm.volumes import Volume, read_volumes
from i2core.api import Code, Line, StopRule, in_thread
from i2core.api.snapshots import SnapshotContext, SnapshotGone, SnapshotStore
from i2core.api.tree import Tree
from i2core.posix.tree import LocalTree

_PREFIX = "i2snap-"
_RUN = "/run"


class LvmSnapshots(SnapshotStore):
    """LVM snapshots, classic or thin as the volumes are."""

    def __init__(self, config: LvmConfig, context: SnapshotContext) -> None:
        self._config, self._context = config, context
        self.tag = "i2_" + blake2b(b"\0".join(context.roots), digest_size=8, key=context.secret[:64]).hexdigest()
        """All snapshots of this replica have it."""
        self._changing = trio.Lock()

    # ------------------------------------------------------------------------------------------- the contract

    async def create(self, name: str, roots: Sequence[int]) -> None:
        async with self._changing:
            await in_thread(self._create, name)

    async def remove(self, name: str) -> None:
        async with self._changing:
            await in_thread(self._remove, name)

    async def names(self) -> Collection[str]:
        return {name for name, number, volume in await in_thread(self._mine) if not number and volume.is_valid}

    async def space(self, name: str) -> int | None:
        mine = [volume for each, _, volume in await in_thread(self._mine) if each == name]
        if not mine:
            raise _gone(name)
        if any(volume.is_thin for volume in mine):
            return None  # LVM does not tell what a thin volume shares
        return sum(round(volume.size_bytes * volume.used_percent / 100) for volume in mine)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Sequence[Tree]]:
        if name not in await self.names():
            raise _gone(name)
        async with AsyncExitStack() as stack:
            mounted = await in_thread(_mounted, self._origins(Code.SNAPSHOT_MOUNT), name)
            stack.push_async_callback(_shielded, mounted.close)
            trees = await in_thread(mounted.trees, self._context.flags)
            for tree in trees:
                stack.callback(tree.close)
            yield trees

    async def tend(self) -> None:
        async with self._changing:
            await in_thread(self._tend)

    # ------------------------------------------------------------------------------------------- in worker threads

    def _create(self, name: str) -> None:
        volumes = _distinct(self._origins(Code.SNAPSHOT_CREATE))
        for number in reversed(range(len(volumes))):
            volume = volumes[number]
            # -kn: a thin snapshot is active after a reboot, too. A classic one needs room of its own.
            size = ("-kn",) if volume.is_thin else ("-l", f"{self._config.size_percent}%ORIGIN")
            with _told(Code.SNAPSHOT_CREATE, volume):
                command = ("lvcreate", "-y", "-s", "-p", "r", "-n", _lv_name(name, number), "--addtag", self.tag)
                run(*command, *size, f"{volume.group}/{volume.name}")

    def _remove(self, name: str) -> None:
        mine = sorted((number, volume) for each, number, volume in self._mine() if each == name)
        for _, volume in mine:
            with _told(Code.SNAPSHOT_REMOVE, volume):
                run("lvremove", "-y", f"{volume.group}/{volume.name}")

    def _mine(self) -> list[tuple[str, int, Volume]]:
        """Name, number and volume of each that is there, whatever its state."""
        found = []
        for volume in _all_volumes():
            if self.tag in volume.tags and volume.name.startswith(_PREFIX):
                name, _, number = volume.name.removeprefix(_PREFIX).rpartition("-")
                found.append((name, int(number), volume))
        return found

    def _tend(self) -> None:
        """Extends what is nearly full: an overflown snapshot is lost."""
        full: dict[tuple[str, str], Volume] = {}
        volumes = {(volume.group, volume.name): volume for volume in _all_volumes()}
        for _, _, snapshot in self._mine():
            volume = volumes.get((snapshot.group, snapshot.pool)) if snapshot.is_thin else snapshot
            if volume is not None and self._config.extend_at_percent <= volume.used_percent < 100:
                full[volume.group, volume.name] = volume
        for volume in full.values():
            self._extend(volume)

    def _extend(self, volume: Volume) -> None:
        try:
            run("lvextend", "-y", "-l", f"+{self._config.extend_by_percent}%LV", f"{volume.group}/{volume.name}")
        except Failed as error:
            cause = f"{volume.path} is {volume.used_percent:.0f}% full, and cannot be extended: {error}"
            self._context.say(Line(cause, code=Code.VOLUME_GROUP_EXTEND, obj=volume.group, cause=cause))

    def _origins(self, code: Code) -> list[Origin]:
        try:
            return find_origins(self._context.roots, self._config)
        except Unfit as error:
            raise StopRule(str(error), code=error.code) from error


class _mounted:  # noqa: N801 (it is used as a function)
    """The snapshots of all volumes of a replica, mounted. Blocks."""

    def __init__(self, origins: Sequence[Origin], name: str) -> None:
        """Raises StopRule where one cannot be mounted."""
        self._origins = origins
        self._points: dict[tuple[str, str], str] = {}
        self._top = tempfile.mkdtemp(prefix="i2-snapshot-", dir=_RUN if os.access(_RUN, os.W_OK) else None)
        try:
            for number, volume in enumerate(_distinct(origins)):
                kind = next(each.kind for each in origins if each.volume == volume)
                point = os.path.join(self._top, str(number))
                os.mkdir(point, 0o700)
                options = f"ro,nosuid,nodev,noexec,{OPTIONS[kind]}"
                with _told(Code.SNAPSHOT_MOUNT, volume):
                    device = f"/dev/{volume.group}/{_lv_name(name, number)}"
                    run("mount", "-t", kind, "-o", options, device, point)
                self._points[volume.group, volume.name] = point
        except BaseException:
            self.close()
            raise

    def trees(self, flags: bool) -> list[Tree]:
        """By root."""
        found: list[Tree] = []
        for origin in self._origins:
            point = os.fsencode(self._points[origin.volume.group, origin.volume.name])
            tree = LocalTree(os.path.join(point, origin.path), flags=flags)
            tree.is_fixed = True
            found.append(tree)
        return found

    def close(self) -> None:
        """Unmounts all; what is in use is unmounted when its last user ends."""
        for point in self._points.values():
            try:
                run("umount", point)
            except Failed:
                run("umount", "-l", point)
        for number in range(len(_distinct(self._origins))):
            if os.path.isdir(point := os.path.join(self._top, str(number))):
                os.rmdir(point)
        os.rmdir(self._top)


def _all_volumes() -> list[Volume]:
    try:
        return read_volumes()
    except Failed as error:
        raise StopRule(str(error), code=Code.VOLUME_GROUP) from error


async def _shielded(work: Callable[[], None]) -> None:
    with trio.CancelScope(shield=True):
        await in_thread(work)


def _distinct(origins: Sequence[Origin]) -> list[Volume]:
    """The volumes, in the order of the roots."""
    return list({(each.volume.group, each.volume.name): each.volume for each in origins}.values())


def _lv_name(name: str, number: int) -> str:
    return f"{_PREFIX}{name}-{number}"


@contextmanager
def _told(code: Code, volume: Volume) -> Iterator[None]:
    try:
        yield
    except Failed as error:
        full = error.is_full and code is Code.SNAPSHOT_CREATE
        raise StopRule(str(error), code=Code.REPLICA_FULL if full else code, obj=volume.path) from error


def _gone(name: str) -> SnapshotGone:
    return SnapshotGone("there is no such LVM snapshot, or it has overflowed", obj=name)
