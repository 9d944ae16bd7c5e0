"""A replica in memory: the contract of `Sink` in the simplest form; the model for tests of real sinks."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import trio
import xxhash

from i2core.api import (
    BLOCK_BYTES,
    Applied,
    Batch,
    Code,
    DriverKind,
    DriverSpec,
    Entry,
    Failure,
    Kind,
    Meta,
    NoConfig,
    Place,
    Record,
    Sink,
    SinkContext,
    UsageError,
)
from i2core.api.drivers import Ask, Seen
from i2core.api.inode_flags import UNREAD
from i2core.api.present import Identity, Replica
from i2core.testing.disk_replica import DiskReplica
from i2core.testing.memory_disk import MemoryDisk, Node, walk

_NAME_BYTES = 255


_TORN = "a part of its content could not be written"


class _Failed(Exception):
    """A record that cannot be applied. `path`: the place to compare, if it is not the record's own."""

    def __init__(self, cause: str, code: Code = Code.OPEN_REPLICA, *, repair: bool = True, path: bytes | None = None):
        super().__init__(cause)
        self.code, self.repair, self.path = code, repair, path


class MemorySink(Sink):
    """A sink on a `MemoryDisk`. Everything is durable at once, no file is sparse, every owner and attribute can be set.
    It has a method for each method of the contract and for each kind of record."""

    owns = True

    def __init__(self, context: SinkContext, disk: MemoryDisk) -> None:
        """Raises UsageError for a root that is not beneath an allowed directory."""
        for root in context.roots:
            self._check_allowed(root, context.allowed)
        self._context = context
        self._disk = disk
        self._roots = [disk.directory(root) for root in context.roots]
        self.identities = [str(node.ino) for node in self._roots]
        self.exchanged = any(
            context.known.get(root, own) != own for root, own in zip(context.roots, self.identities, strict=True)
        )
        self._store = disk.store(context.roots[0]) if context.roots else None
        self._keeps: Mapping[bytes, int] = {}
        """What the current record must keep."""
        self._fresh: list[Node] = []
        """What it has made."""
        self._staged: set[Place] = set()
        self._methods: dict[Kind, Callable[[Record], None]] = {
            Kind.CREATE: self._create,
            Kind.STAGE: self._stage,
            Kind.WRITE: self._write,
            Kind.PUNCH: self._punch,
            Kind.TRUNCATE: self._truncate,
            Kind.PUBLISH: self._publish,
            Kind.MKDIR: self._mkdir,
            Kind.SYMLINK: self._symlink,
            Kind.MKNOD: self._mknod,
            Kind.LINK: self._link,
            Kind.RENAME: self._rename,
            Kind.REMOVE: self._remove,
            Kind.SETATTR: self._setattr,
            Kind.BARRIER: lambda record: None,
        }

    @staticmethod
    def _check_allowed(path: bytes, allowed: Sequence[bytes]) -> None:
        inside = any(path == base or path.startswith(base.rstrip(b"/") + b"/") for base in allowed)
        if not inside or b".." in path.split(b"/"):
            raise UsageError("the path is not beneath an allowed directory", code=Code.ILLEGAL_PATH, obj=repr(path))

    # -------------------------------------------------------------------------------------- the contract

    async def apply(self, batch: Batch) -> Applied:
        await trio.lowlevel.checkpoint()
        failures: list[Failure] = []
        made: dict[int, Identity] = {}
        for at, (seq, record) in enumerate(enumerate(batch.records, batch.first_seq)):
            self._keeps, self._fresh = batch.keeps[at] if batch.keeps is not None else {}, []
            try:
                self._methods[record.kind](record)
                if batch.keeps is not None:
                    made.update((seq, node.identity) for node in self._fresh)
            except _Failed as failed:
                path = record.path if failed.path is None else failed.path
                failures.append(Failure(seq, Place(record.root, path), failed.code, str(failed), failed.repair))
            self._context.applied(seq)
            if failures and batch.keeps is not None:
                return Applied(seq, tuple(failures), made=made)
        return Applied(batch.last_seq, tuple(failures), made=made)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        await trio.lowlevel.checkpoint()
        links = self._disk.links()
        answers: list[Seen] = []
        for ask in asks:
            directory = self._find(ask.place)
            if directory is None or not directory.is_dir:
                answers.append(Seen(None, [None] * len(ask.names), ()))
                continue
            entries = [self._entry(name, directory.entries.get(name), links) for name in ask.names]
            names = list(directory.entries) if ask.every else []
            leftovers = ask.every and bool(directory.staging)
            answers.append(Seen(self._entry(b"", directory, links), entries, names, leftovers))
        return answers

    def _entry(self, name: bytes, node: Node | None, links: Mapping[int, int]) -> Entry | None:
        return None if node is None else node.entry(name, links, flags=self._context.flags)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        await trio.lowlevel.checkpoint()
        above, _, name = place.path.rpartition(b"/")
        directory = self._find(Place(place.root, above))
        node = None if directory is None else (directory.staging if staged else directory.entries).get(name)
        if node is None or not node.is_file:
            return b""
        node.torn = node.torn and first > 0
        data = memoryview(node.data)[first * BLOCK_BYTES : (first + count) * BLOCK_BYTES]
        digest = xxhash.xxh3_128_digest
        return b"".join(digest(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES))

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        await trio.lowlevel.checkpoint()
        directory = self._find(place)
        if directory is None:
            return False
        stale = set(directory.staging) - set(staged)
        for name in stale:
            del directory.staging[name]
        return bool(stale)

    async def unstage(self, places: Sequence[Place]) -> None:
        await trio.lowlevel.checkpoint()
        for place in places:
            above, _, name = place.path.rpartition(b"/")
            directory = self._find(Place(place.root, above))
            if place.path and directory is not None:
                directory.staging.pop(name, None)
            top = self._find(place)
            for node in () if top is None else walk(top):
                node.staging.clear()

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return [await self.hashes(place, 0, most) for place in places]

    async def count(self, place: Place, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        node = self._find(place)
        return 0 if node is None else min(limit, len({id(each) for each in walk(node) if not each.is_dir}))

    async def losses(self, places: Sequence[Place], limit: int) -> list[int]:
        await trio.lowlevel.checkpoint()
        everywhere = Counter(id(each) for root in self._roots for each in walk(root) if not each.is_dir)
        found: list[int] = []
        for place in places:
            node = self._find(place)
            here = [] if node is None else [id(each) for each in walk(node) if not each.is_dir]
            everywhere.subtract(here)
            found.append(min(limit, sum(everywhere[each] == 0 for each in set(here))))
        return found

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check_allowed(destination, self._context.allowed)
        above, _, name = place.path.rpartition(b"/")
        directory = self._find(Place(place.root, above))
        if directory is None or name not in directory.entries:
            return
        target = self._disk.directory(destination)
        model = self._roots[place.root]
        for part in above.split(b"/") if above else ():
            model = model.entries[part]
            target = target.entries.setdefault(part, self._disk.node(model.meta))
        free, number = name, 0
        while free in target.entries:
            number += 1
            tail = b".%d" % number
            free = name[: _NAME_BYTES - len(tail)] + tail
        target.entries[free] = directory.entries.pop(name)

    # -------------------------------------------------------------------------------------- finding

    def _find(self, place: Place) -> Node | None:
        node = self._roots[place.root]
        for part in place.path.split(b"/") if place.path else ():
            below = node.entries.get(part)
            if below is None:
                return None
            node = below
        return node

    def _locate(self, root: int, path: bytes) -> tuple[Node, bytes]:
        """The directory that contains `path`, and the name in it."""
        parts = path.split(b"/")
        bad = any(part in (b"", b".", b"..") or b"\0" in part for part in parts)
        if bad or not 0 <= root < len(self._roots):
            raise _Failed("the path cannot be replicated", Code.ILLEGAL_PATH, repair=False)
        node = self._roots[root]
        for part in parts[:-1]:
            if len(part) > _NAME_BYTES:
                raise _Failed("name too long", Code.REPLICA_UNFIT, repair=False)
            below = node.entries.get(part)
            if below is None or not below.is_dir:
                raise _Failed("its directory is missing")
            node = below
        if len(parts[-1]) > _NAME_BYTES:
            raise _Failed("name too long", Code.REPLICA_UNFIT, repair=False)
        return node, parts[-1]

    def _file(self, record: Record) -> Node:
        directory, name = self._locate(record.root, record.path)
        node = (directory.staging if record.staged else directory.entries).get(name)
        if node is None or not node.is_file:
            raise _Failed("no regular file is here")
        return node

    def _changing(self, record: Record) -> Node:
        """The file whose content is about to change."""
        node = self._file(record)
        if record.offset < 0 or record.size < 0:
            node.torn = True
            raise _Failed("a number is negative")
        return node

    # -------------------------------------------------------------------------------------- the kinds

    def _lose(self, directory: Node, name: bytes, path: bytes) -> None:
        """What has the name loses it, and is kept whole if that is the last one. A number that the store has was kept
        when the record was applied before."""
        node, number = directory.entries.pop(name, None), self._keeps.get(path)
        if node is not None and number is not None and self._store is not None:
            self._store.entries.setdefault(b"%d" % number, node)

    def _put(self, record: Record, node: Node) -> None:
        """The node gets the name, instead of what has it."""
        directory, name = self._locate(record.root, record.path)
        self._lose(directory, name, record.path)
        directory.entries[name] = node

    def _make(self, record: Record, node: Node) -> None:
        self._put(record, node)
        self._fresh.append(node)

    def _create(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        if name in directory.entries:
            self._drop_stale_staging(record, directory, name)
        node = self._disk.node(record.meta or Meta(stat.S_IFREG | 0o600, 0, 0, 0))
        node.write(0, record.data)
        self._make(record, node)

    def _stage(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        if record.size == 1 and name not in directory.staging:
            raise _Failed("the staging file is missing")
        if record.size != 1:
            directory.staging[name] = self._disk.node(Meta(stat.S_IFREG | 0o600, 0, 0, 0))
        self._staged.add(Place(record.root, record.path))

    def _write(self, record: Record) -> None:
        self._changing(record).write(record.offset, record.data)

    def _punch(self, record: Record) -> None:
        self._changing(record).punch(record.offset, record.offset + record.size)

    def _truncate(self, record: Record) -> None:
        self._changing(record).truncate(record.size)

    def _publish(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        node = directory.staging.get(name)
        if node is None:
            raise _Failed("the staging file is missing")
        if node.torn:
            raise _Failed(_TORN)
        node.truncate(record.size)
        self._set(node, record.meta)
        self._make(record, directory.staging.pop(name))
        self._staged.discard(Place(record.root, record.path))

    def _drop_stale_staging(self, record: Record, directory: Node, name: bytes) -> None:
        if Place(record.root, record.path) in self._staged:
            self._staged.discard(Place(record.root, record.path))
        else:
            directory.staging.pop(name, None)

    def _mkdir(self, record: Record) -> None:
        if not record.path:
            self._set(self._roots[record.root], record.meta)
            return
        directory, name = self._locate(record.root, record.path)
        node = directory.entries.get(name)
        if node is None or not node.is_dir:
            self._make(record, self._disk.node(record.meta or Meta(stat.S_IFDIR | 0o700, 0, 0, 0)))
        else:
            self._set(node, record.meta)

    def _symlink(self, record: Record) -> None:
        node = self._disk.node(record.meta or Meta(stat.S_IFLNK | 0o777, 0, 0, 0))
        node.target = record.other
        self._make(record, node)

    def _mknod(self, record: Record) -> None:
        special = (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)
        if record.meta is None or stat.S_IFMT(record.meta.mode) not in special:
            raise _Failed("not a type of special file", Code.MESSAGE_TYPE, repair=False)
        node = self._disk.node(record.meta)
        if stat.S_IFMT(record.meta.mode) in (stat.S_IFCHR, stat.S_IFBLK):
            node.rdev = record.size
        self._make(record, node)

    def _link(self, record: Record) -> None:
        directory, name = self._locate(record.root, record.path)
        try:
            source, source_name = self._locate(record.root, record.other)
            node = source.entries.get(source_name)
        except _Failed as failed:
            if not failed.repair:
                raise
            node = None
        if node is None:
            raise _Failed("the file to link to is missing")
        if node.is_dir:
            raise _Failed("a directory cannot have a second name")
        if directory.entries.get(name) is not node:
            self._put(record, node)

    def _rename(self, record: Record) -> None:
        old, new = record.path, record.other
        if old == new:
            return
        if old.startswith(new + b"/") or new.startswith(old + b"/"):
            raise _Failed("a directory cannot move into itself", path=new)
        try:
            target, new_name = self._locate(record.root, new)
        except _Failed as failed:
            failed.path = new if failed.repair else None
            raise
        try:
            source, old_name = self._locate(record.root, old)
        except _Failed as failed:
            if not failed.repair:
                raise
            source, old_name = Node(0, Meta(stat.S_IFDIR, 0, 0, 0)), b""
        node = source.entries.pop(old_name, None)
        if node is None:
            raise _Failed("the object to rename is missing", path=new)
        if target.entries.get(new_name) is not node:
            self._lose(target, new_name, new)
        target.entries[new_name] = node

    def _remove(self, record: Record) -> None:
        if not record.path and not record.staged:
            root = self._roots[record.root]
            for name in list(root.entries):
                self._lose(root, name, name)
            root.staging.clear()
            return
        try:
            directory, name = self._locate(record.root, record.path)
        except _Failed as failed:
            if failed.repair:
                return
            raise
        if record.staged:
            directory.staging.pop(name, None)
            self._staged.discard(Place(record.root, record.path))
            return
        self._lose(directory, name, record.path)
        self._drop_stale_staging(record, directory, name)

    def _setattr(self, record: Record) -> None:
        if record.meta is None:
            raise _Failed("the record has no attributes", Code.MESSAGE_TYPE, repair=False)
        if record.path:
            directory, name = self._locate(record.root, record.path)
            node = directory.entries.get(name)
        else:
            node = self._roots[record.root]
        if node is None:
            raise _Failed("the object is missing")
        self._set(node, record.meta)

    @staticmethod
    def _set(node: Node, meta: Meta | None) -> None:
        if meta is None:
            return
        if stat.S_IFMT(meta.mode) != stat.S_IFMT(node.meta.mode):
            raise _Failed("an object of another type is here")
        if node.torn:
            raise _Failed(_TORN)
        xattrs = node.meta.xattrs if meta.xattrs is None else meta.xattrs
        flags = node.meta.flags if meta.flags == UNREAD else meta.flags
        node.meta = meta._replace(xattrs=xattrs, flags=flags)


def memory_sink(disk: MemoryDisk | None = None) -> DriverSpec:
    """The driver ``"memory"`` on this disk; None: on a new one."""
    kept = MemoryDisk() if disk is None else disk

    @asynccontextmanager
    async def open_memory(config: NoConfig, context: SinkContext) -> AsyncIterator[Sink]:
        yield MemorySink(context, kept)

    @asynccontextmanager
    async def open_replica(config: NoConfig, context: SinkContext) -> AsyncIterator[Replica]:
        yield DiskReplica(kept, context.roots)

    return DriverSpec(
        kind=DriverKind.SINK,
        name="memory",
        summary="a replica in memory, for tests",
        open=open_memory,
        replica=open_replica,
    )
