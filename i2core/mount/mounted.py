"""Mounts trees for as long as a block of code runs: the way into this package."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import attrs
import trio

from i2core.api.errors import Code, I2Error, UsageError
from i2core.api.line import Line
from i2core.api.records import safe_name
from i2core.api.threads import in_thread, own_threads
from i2core.api.tree import Tree
from i2core.mount.device import CannotMount, mount_fuse, top_mount, unmount
from i2core.mount.file_system import FileSystem
from i2core.mount.handed import Handed
from i2core.mount.layer import HIDDEN, Layer, new_layer, remove_leftovers
from i2core.mount.point import check_place, clear_dead, open_point
from i2core.mount.server import Server
from i2core.mount.users import told, users_of
from i2core.posix.mounts import Mount
from i2core.posix.opening import READABLE
from i2core.posix.path_text import shown
from i2core.tasks import background

SCRATCH = b"/var/tmp"
THREADS = 4
"""Requests that a mount answers at a time."""
_MOST_LINES = 1000
"""Objects that cannot be read and are named in the log, for each mount."""
_TRIES, _WAIT_S = 20, 0.05
"""A mount may be in use for a moment by a program that looks at every new one."""

Say = Callable[[Line], None]


@attrs.frozen
class Mounted:
    """A mount that is there."""

    point: bytes
    """Its directory, without symlinks."""
    ended: trio.Event
    """It was unmounted, by whomever."""


@asynccontextmanager
async def mounted(
    trees: Tree | Mapping[bytes, Tree],
    directory: bytes,
    say: Say,
    *,
    forbidden: Iterable[bytes] = (),
    everybody: bool = False,
    writable: bool = False,
    scratch: bytes = SCRATCH,
    handed: Handed | None = None,
) -> AsyncIterator[Mounted]:
    """Mounts a tree, or several by names of their own, on an empty directory. The mount ends with the body, or when
    somebody unmounts it: then `Mounted.ended` is set, and the body goes on. What a killed process has left mounted
    there is unmounted first.

    `say` gets a line for each object that cannot be read. Nothing is mounted in a `forbidden` directory, nor in one of
    the trees. Only the user who mounts may enter, unless `everybody` (as root alone): then the kernel checks modes and
    ACLs of the tree against the users of this host. `writable` (as root alone, for trees that are fixed) puts a layer
    above in a new directory in `scratch`; it is removed at the end. `handed`: a command mounts, and unmounts, because
    this process has mounts of its own.

    This process must not use the mount while it holds the interpreter lock, as mmap(2) or the start of a process in a
    directory of the mount do: the threads that serve it need that lock.

    Raises:
        UsageError: nothing can be mounted there.
        CannotMount: this host or this user cannot mount.
    """
    named = {b"": trees} if isinstance(trees, Tree) else dict(trees)
    point = os.fsencode(os.path.realpath(directory))  # noqa: ASYNC240 (once, at the start)
    _check(named, writable=writable)
    if handed is not None and writable:
        raise CannotMount(
            "a daemon with mounts of its own cannot show one that can be written",
            next_step="mount without --writable, or run the daemon outside of a service",
        )
    await clear_dead(point)
    lines = _Lines(say)
    async with AsyncExitStack() as stack:
        kept = (*forbidden, *(tree.path for tree in named.values()))
        where = await in_thread(partial(_place, point, kept, handed))
        stack.callback(os.close, where)
        layer = await stack.enter_async_context(_layer(scratch)) if writable else None
        files = FileSystem(named, lines.failed, HIDDEN if writable else ())
        server = Server(files, lines.failed, lines.defect)
        stack.callback(server.close)
        if handed is not None:
            server.begin(await in_thread(handed.mount))
        else:
            server.begin(await _mount(where, point, layer, everybody=everybody))
        found = Mounted(point, trio.Event())
        await stack.enter_async_context(_serving(server, found.ended))
        if layer is not None:
            await in_thread(partial(layer.put_on, where, point, files.top, everybody=everybody))
        mount = None if handed is not None else await in_thread(top_mount, point)
        stack.push_async_callback(_take_down, found, mount, say)
        yield found


def _place(point: bytes, forbidden: Iterable[bytes], handed: Handed | None) -> int:
    """The directory on which is mounted, open."""
    if handed is None:
        return open_point(point, forbidden)
    where = os.dup(handed.directory)
    try:
        check_place(where, shown(point), forbidden)
    except BaseException:
        os.close(where)
        raise
    return where


def _check(trees: Mapping[bytes, Tree], *, writable: bool) -> None:
    if not trees or (len(trees) > 1 and not all(map(safe_name, trees))):
        raise UsageError("several trees need a name each, which a directory may have")
    if writable and os.geteuid():
        raise CannotMount("a mount that can be written needs overlayfs, which only root may mount")
    if writable and not all(tree.is_fixed for tree in trees.values()):
        raise UsageError(
            "what changes cannot be mounted writable: programs would see two states at once",
            next_step="mount a moment",
        )


@asynccontextmanager
async def _layer(scratch: bytes) -> AsyncIterator[Layer]:
    await in_thread(remove_leftovers, scratch)
    layer = await in_thread(new_layer, scratch)
    try:
        yield layer
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(layer.remove)


async def _mount(where: int, point: bytes, layer: Layer | None, *, everybody: bool) -> int:
    """Mounts the file system; returns the open ``/dev/fuse``. Nobody serves it yet."""
    if layer is None:
        return await mount_fuse(where, point, everybody=everybody)
    below = os.open(layer.lower, READABLE)
    try:
        return await mount_fuse(below, layer.lower, everybody=False)
    finally:
        os.close(below)


@asynccontextmanager
async def _serving(server: Server, ended: trio.Event) -> AsyncIterator[None]:
    """Answers requests during the body, in threads that nobody else waits for."""
    limiter = trio.CapacityLimiter(THREADS)

    async def serve() -> None:
        with own_threads(limiter):
            await in_thread(server.serve)
        ended.set()

    async with background() as nursery:
        for _ in range(THREADS):
            nursery.start_soon(serve)
        try:
            yield
        finally:
            server.stop()


async def _take_down(mounted: Mounted, mount: Mount | None, say: Say) -> None:
    """Unmounts it. Who still uses it is told, and loses it: without a server they could only wait."""
    with trio.CancelScope(shield=True):
        for _ in range(_TRIES):
            top = await in_thread(top_mount, mounted.point)
            if mounted.ended.is_set() or mount is None or top is None:
                return
            try:
                await unmount(mounted.point)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    say(_still_there(mounted, error.strerror or "it cannot be unmounted"))
                    return
            else:
                return
            await trio.sleep(_WAIT_S)
        users = await in_thread(users_of, mount)
        say(_still_there(mounted, f"still used by {told(users)}"))
        with suppress(OSError):
            await unmount(mounted.point, lazily=True)


def _still_there(mounted: Mounted, why: str) -> Line:
    return Line.of(I2Error(why, code=Code.MOUNT_BUSY, obj=shown(mounted.point)))


class _Lines:
    """What the threads report, each object once, said by the event loop."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._loop = trio.lowlevel.current_trio_token()
        self._said: set[tuple[bytes, int | None]] = set()

    def failed(self, path: bytes, error: OSError) -> None:
        """An object cannot be read."""
        key = (path, error.errno)
        if key not in self._said and len(self._said) < _MOST_LINES:
            self._said.add(key)
            why = f"cannot be read: {error.strerror or error}"
            self._tell(I2Error(why, code=Code.MOUNT_READ, obj=shown(path)))

    def defect(self, trace: str) -> None:
        """An exception that nobody expected."""
        self._tell(I2Error(trace.strip(), code=Code.INTERNAL))

    def _tell(self, error: I2Error) -> None:
        self._loop.run_sync_soon(self._say, Line.of(error))
