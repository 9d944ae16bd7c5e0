"""`check_snapshot_store`: the contract of every store of snapshots. The in-memory twin is `MemorySnapshots`.

The replica of the check is two plain directories, which it changes between snapshots as anybody may: the store must
have kept each state as it was. What a kill in the midst, a power cut or a full disk leaves is for the tests of the
driver at hand.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import DriverSpec
from i2core.api.content import extents
from i2core.api.snapshots import SnapshotContext, SnapshotGone, SnapshotStore
from i2core.api.tree import OpenDirectory, Tree
from i2core.config.options import structure_options
from i2core.posix.tree import LocalTree
from i2core.testing.memory_snapshots import MemoryMoments, MemorySnapshots

__all__ = ["MemorySnapshots", "check_snapshot_store"]

Seen = dict[bytes, tuple[object, ...]]
"""All of a tree by path: type, mode, owner, size, time, link text, attributes, content, and which names are one
object."""
ROOTS = 2


async def check_snapshot_store(
    spec: DriverSpec,
    options: Mapping[str, Any] | None = None,
    *,
    workdir: Path | None = None,
    trials: type[Trial] | None = None,
) -> None:
    """Holds a store to its contract. `options` as in a config file; None takes ``spec.example``.

    Works beneath `workdir`, and leaves nothing there; None takes a temporary directory. Where the driver's probe says
    that it cannot work there, it is not opened at all. `trials`: how the replica is made, where plain directories do
    not do.

    Raises:
        AssertionError: the store breaks the contract; the message says where.
        UsageError: the options do not fit the driver.
    """
    config = structure_options(spec, spec.example if options is None else options)
    top = Path(tempfile.mkdtemp(prefix="check-snapshots-", dir=workdir))
    try:
        for step in _STEPS:
            trial = (trials or Trial)(spec, config, top / step.__name__)
            trial.make()
            if spec.probe is not None and not (found := spec.probe(trial.context)).works:
                assert found.why, "the probe says no, and not why"
                return
            try:
                await step(trial)
            except AssertionError as error:
                raise AssertionError(f"{step.__name__}: {error}") from error
            async with trial.open() as store:
                for name in await store.names():
                    await store.remove(name)
            left = sorted(set(os.listdir(trial.top)) - {"0", "1"})
            assert not left, f"{step.__name__}: all snapshots are removed, and the store leaves {left}"
    finally:
        await trio.to_thread.run_sync(shutil.rmtree, top)


@attrs.define
class Trial:
    """A replica, and the store under test."""

    spec: DriverSpec
    config: object
    top: Path
    context: SnapshotContext = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        roots = tuple(os.fsencode(self.top / str(number)) for number in range(ROOTS))
        self.context = SnapshotContext(
            roots=roots, allowed=(os.fsencode(self.top),), secret=b"s" * 32, moments=MemoryMoments(roots).opened
        )

    def open(self) -> AbstractAsyncContextManager[SnapshotStore]:
        """The store; again and again the same one."""
        return self.spec.open(self.config, self.context)

    @contextmanager
    def roots(self) -> Iterator[list[int]]:
        """The directories, open."""
        fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY) for root in self.context.roots]
        try:
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    def now(self) -> list[Seen]:
        """The replica as it stands."""
        found = []
        for root in self.context.roots:
            tree = LocalTree(root)
            found.append(seen(tree))
            tree.close()
        return found

    async def take(self, store: SnapshotStore, name: str) -> list[Seen]:
        """Takes a snapshot, which must leave the replica as it is; returns what it must have."""
        before = self.now()
        with self.roots() as fds:
            await store.create(name, fds)
        assert self.now() == before, "the replica is changed by a snapshot"
        return before

    def make(self) -> None:
        """The first state of the replica."""
        for root in (self.top / "0", self.top / "1"):
            root.mkdir(parents=True)
            (root / "dir" / "sub").mkdir(parents=True)
            (root / "file").write_bytes(bytes(range(256)) * 700)
            (root / "empty").touch()
            (root / "dir" / "sub" / "deep").write_bytes(b"deep")
            (root / "link").symlink_to("dir")
            (root / "outside").symlink_to("/etc")
            os.link(root / "file", root / "dir" / "second")
            Path(os.fsdecode(os.fsencode(root) + b"/\xff\n -")).write_bytes(b"a name of any bytes")
            os.mkfifo(root / "fifo", 0o600)
            with (root / "sparse").open("wb") as file:
                file.write(b"begin" * 1000)
                file.truncate(1 << 20)
            with suppress(OSError):  # a file system without extended attributes
                os.setxattr(root / "file", "user.first", b"\0\xff")
                os.setxattr(root / "dir", "user.second", b"")
            os.chmod(root / "dir" / "sub" / "deep", 0o640)
            for path in (root / "file", root / "dir", root):
                os.utime(path, ns=(0, 1_700_000_000_123_456_789))

    def change(self, word: str) -> None:
        """Something of everything."""
        for root in (self.top / "0", self.top / "1"):
            with (root / "file").open("r+b") as file:
                file.seek(1000)
                file.write(word.encode())
            (root / f"new-{word}").write_text(word)
            (root / "dir" / "sub" / "deep").write_text(word)
            os.chmod(root / "empty", 0o600)
            with suppress(OSError):
                os.setxattr(root / "file", "user.first", word.encode())
            with suppress(FileNotFoundError):
                os.unlink(root / "link")
                os.rename(root / "dir", root / f"moved-{word}")
                (root / "dir" / "sub").mkdir(parents=True)


def seen(tree: Tree) -> Seen:
    """All of a tree."""
    found: Seen = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    _look(tree, b"", found, groups)
    for paths in groups.values():
        for path in paths:
            found[path] += (tuple(sorted(paths)),)
    return found


def _look(tree: Tree, path: bytes, found: Seen, groups: dict[tuple[int, int], list[bytes]]) -> None:
    with tree.directory(path) as directory:
        here = directory.here()
        found[path] = (here.mode, here.uid, here.gid, here.mtime_ns, directory.xattrs(b""))
        entries = sorted((entry for part in directory.listing(7) for entry in part), key=lambda entry: entry.name)
        below = []
        for entry in entries:
            inner = path + b"/" + entry.name if path else entry.name
            if stat.S_ISDIR(entry.mode):
                below.append(inner)
                continue
            groups.setdefault((entry.dev, entry.ino), []).append(inner)
            size = entry.size if stat.S_ISREG(entry.mode) else 0
            content = _content(directory, entry.name, size) if stat.S_ISREG(entry.mode) else b""
            attributes = directory.xattrs(entry.name)
            owner = (entry.mode, entry.uid, entry.gid)
            found[inner] = (*owner, size, entry.mtime_ns, entry.target, entry.rdev, attributes, content)
    for inner in below:
        _look(tree, inner, found, groups)


def _content(directory: OpenDirectory, name: bytes, size: int) -> bytes:
    with directory.open(name) as file:
        content = bytearray(size)
        for extent in extents(file, 0, size):
            if extent.data:
                content[extent.start : extent.end] = file.read(extent.start, extent.end - extent.start)
        return bytes(content)


async def _equal(store: SnapshotStore, name: str, wanted: Sequence[Seen]) -> None:
    async with store.open(name) as trees:
        assert len(trees) == len(wanted), f"{len(trees)} trees for {len(wanted)} directories"
        for number, tree in enumerate(trees):
            assert tree.is_fixed, "the tree of a snapshot may change, it says"
            found, right = seen(tree), wanted[number]
            different = {path for path in found.keys() | right.keys() if found.get(path) != right.get(path)}
            assert not different, f"{name}: the state is another one at {sorted(different)[:5]}"


async def _gone(ask: Callable[[], Awaitable[object]], what: str) -> None:
    try:
        await ask()
    except SnapshotGone:
        return
    raise AssertionError(f"{what} of a snapshot that is not there")


# ------------------------------------------------------------------------------------------- what it owes


async def unchanged(trial: Trial) -> None:
    """Each snapshot has the state at which it was taken, also after the store was opened again."""
    wanted: dict[str, list[Seen]] = {}
    async with trial.open() as store:
        assert isinstance(store, SnapshotStore), f"open gave {type(store).__name__}, which is not a SnapshotStore"
        assert not await store.names(), "a new store has snapshots"
        for name in ("1-a", "2-b", "3-c"):
            wanted[name] = await trial.take(store, name)
            trial.change(name)
            assert set(await store.names()) == set(wanted)
        for name, state in wanted.items():
            await _equal(store, name, state)
    async with trial.open() as store:
        assert set(await store.names()) == set(wanted), "other snapshots after the store was opened again"
        for name, state in wanted.items():
            await _equal(store, name, state)
            space = await store.space(name)
            assert space is None or space >= 0, f"{name} takes {space} bytes"


async def removed(trial: Trial) -> None:
    """What is removed is gone, the others stay, and nobody complains twice."""
    async with trial.open() as store:
        for name in ("1", "2"):
            state = await trial.take(store, name)
            trial.change(name)
        for _ in range(2):
            await store.remove("1")
            assert set(await store.names()) == {"2"}
        await store.remove("never")
        await _equal(store, "2", state)

        async def opened() -> None:
            async with store.open("1"):
                pass

        await _gone(opened, "open")
        await _gone(lambda: store.space("1"), "space")


async def whole_or_none(trial: Trial) -> None:
    """A snapshot that is broken off is not there, whatever of it was made; its name is free once it is removed."""
    async with trial.open() as store:
        with trio.CancelScope() as scope:
            scope.cancel()
            with trial.roots() as fds:
                await store.create("1", fds)
        if scope.cancelled_caught:
            assert not await store.names(), "a snapshot that was broken off is there"
        await store.remove("1")
        assert not await store.names()
        await _equal_after(trial, store)


async def _equal_after(trial: Trial, store: SnapshotStore) -> None:
    state = await trial.take(store, "2")
    trial.change("later")
    await _equal(store, "2", state)


async def private(trial: Trial) -> None:
    """Nobody else enters what the store has made beside the replica."""
    async with trial.open() as store:
        await trial.take(store, "1")
        for name in set(os.listdir(trial.top)) - {"0", "1"}:
            mode = os.lstat(trial.top / name).st_mode
            assert stat.S_ISDIR(mode) and not mode & 0o077, f"others may enter {name}: {mode:o}"


_STEPS = (unchanged, removed, whole_or_none, private)
