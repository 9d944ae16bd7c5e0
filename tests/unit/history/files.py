"""A `Disk` that stands in files as well: the history asks and changes plain files, and the model in memory says whether
each answer is right.

The model's files are tiny, and a block of a file system is not. So one byte of the model is `SCALE` equal bytes of a
file: a block of the model (`GRAIN.hole`) is 4 KiB.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from i2_sink_fs.present.replica import FsReplica
from i2_sink_fs.roots import Roots

from i2core.api import SinkContext
from i2core.api.present import STAGING, STORE, TOP, Extent, Facts, Handle, Identity
from i2core.api.records import Buffer, Meta
from i2core.testing.memory_replica import Inode

from .disk import GRAIN, Disk

SCALE = 4096 // GRAIN.hole
_FIXED = (TOP, STORE, STAGING)
_WORKSHOP = b"1"
"""A second root, of which the model knows nothing: objects are made there, and moved to their names."""


def grown(data: Buffer) -> bytes:
    """The bytes as they stand in a file."""
    return b"".join(bytes([byte]) * SCALE for byte in bytes(data))


class Files(FsReplica):
    """In the model, `d` and `d/x` may have staging files at the same time, which no sink makes: so directories have
    other names here."""

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        return super().child(directory, _staged(directory, name))

    def names(self, directory: Handle) -> Iterable[bytes]:
        found = super().names(directory)
        return (name.replace(b".d/", b"/") for name in found) if directory == STAGING else found

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        super().move(directory, _staged(directory, name), target, _staged(target, new))

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        super().link(handle, target, _staged(target, new))

    def remove(self, directory: Handle, name: bytes) -> None:
        super().remove(directory, _staged(directory, name))


def _staged(directory: Handle, name: bytes) -> bytes:
    if directory != STAGING:
        return name
    root, *above, last = name.split(b"/")
    return b"/".join((root, *(part + b".d" for part in above), last))


class FileDisk(Disk):
    """Each change is carried out in memory and in files. Each question is asked of the files, by the handle, and its
    answer compared."""

    def __init__(self, rng: random.Random, top: bytes, *, exact_holes: bool) -> None:
        """`top`: an empty directory for the replica. `exact_holes`: its file system makes and tells of holes as the
        model does. XFS shows blocks as data that it has reserved, and btrfs the block that a file grew over."""
        super().__init__(rng)
        self._top_path = top
        self._context = SinkContext(roots=(top + b"/replica", top + b"/workshop"), allowed=(top,), secret=bytes(32))
        self._exact_holes = exact_holes
        self._model_alone = False
        self._known: dict[Identity, Inode] = {}
        self._begin()

    def _begin(self) -> None:
        """The files as the model has the objects, all new; an object has another inode number than before."""
        shutil.rmtree(self._top_path)
        os.mkdir(self._top_path)
        self.files = Files(self._context, Roots(self._context.roots, self._context.allowed, {}))
        made: set[Inode] = set()
        with self._at(b"0") as handle:
            self._note(handle, self.root)
        for top in (self.root, self.store, self.staging):
            self._make_within(top, made)
        for top in (self.root, self.store):
            self._settle_within(top)

    def _make_within(self, directory: Inode, made: set[Inode]) -> None:
        for name, node in directory.entries.items():
            with self._of(directory) as above:
                if node in made:
                    with self._of(node) as handle:
                        self.files.link(handle, above, name)
                    continue
                self._make(node, above, name)
            made.add(node)
            self._make_within(node, made)

    def _settle_within(self, node: Inode) -> None:
        """Times of directories, which change with each name."""
        for child in node.entries.values():
            self._settle_within(child)
        if node is not self.store:
            with self._of(node) as handle:
                self.files.set_meta(handle, node.meta)

    def _make(self, node: Inode, above: Handle, name: bytes) -> None:
        path = self._context.roots[1] + b"/made"
        if node.is_dir:
            os.mkdir(path, 0o700)
        elif stat.S_ISLNK(node.meta.mode):
            os.symlink(node.target, path)
        elif stat.S_ISFIFO(node.meta.mode):
            os.mkfifo(path, 0o600)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        with self._at(_WORKSHOP) as workshop, self._at(_WORKSHOP, b"made") as handle:
            self._note(handle, node)
            if node.is_file:
                self._fill(handle, node)
            self.files.set_meta(handle, node.meta)
            self.files.remove(above, name)
            self.files.move(workshop, b"made", above, name)

    def _fill(self, handle: Handle, node: Inode) -> None:
        for block in sorted(node.alloc):
            data = node.data[block * GRAIN.hole : (block + 1) * GRAIN.hole]
            self.files.write(handle, block * GRAIN.hole * SCALE, grown(data))
        self.files.truncate(handle, len(node.data) * SCALE)

    def _note(self, handle: Handle, node: Inode) -> None:
        self._known[self.files.facts(handle).identity] = node

    # ------------------------------------------------------------------------------------------- objects in files

    @contextmanager
    def _at(self, *way: bytes, top: int = TOP) -> Iterator[Handle]:
        handle, opened = self.files.directory(top), list[Handle]()
        for name in way:
            child = self.files.child(handle, name)
            assert child is not None, (way, top)
            handle = child
            opened.append(child)
        yield handle
        for each in opened:
            self.files.release(each)

    def _tops(self) -> Sequence[tuple[int, Inode]]:
        return (TOP, self.top), (STORE, self.store), (STAGING, self.staging)

    def _is_there(self, node: Inode) -> bool:
        return any(_way(top, node) is not None for _, top in self._tops())

    @contextmanager
    def _of(self, node: Inode) -> Iterator[Handle]:
        """An object of the model, by one of its names."""
        for oid, top in self._tops():
            way = _way(top, node)
            if way is not None:
                with self._at(*way, top=oid) as handle:
                    yield handle
                return
        raise AssertionError("an object without a name is to be changed")

    def compare(self) -> None:
        """All files against the model."""
        for top, node in self._tops():
            self._compare(self.directory(top), node, times=top != STAGING)  # there they are set when it is published

    def _compare(self, handle: Handle, node: Inode, *, times: bool) -> None:
        assert sorted(self.names(handle)) == sorted(node.entries)
        for name in node.entries:
            child = self.child(handle, name)
            assert child is not None
            found = self.facts(child)
            if times and handle != TOP:
                self._compare_time(child)
            if node.entries[name].is_file:
                self.read(child, 0, found.size)
                list(self.extents(child, 0, found.size))
            if node.entries[name].is_dir:
                self._compare(child, node.entries[name], times=times)
            self.release(child)

    def _compare_time(self, handle: Handle) -> None:
        found, node = self.files.facts(handle).meta.mtime_ns, self.at(handle)
        assert node.accidental or found == node.meta.mtime_ns

    # ------------------------------------------------------------------------------------------- Present

    def child(self, directory: Handle, name: bytes) -> Handle | None:
        there = self.at(directory).entries.get(name)
        found = self.files.child(directory, name)
        assert (there is None) == (found is None), (name, there, found)
        if found is None or there is None:
            return None
        assert self._known[self.files.facts(found).identity] is there, name
        self._open[found] = there
        return found

    def names(self, directory: Handle) -> Iterable[bytes]:
        listed = [name for name in self.files.names(directory) if directory != TOP or name != _WORKSHOP]
        assert sorted(listed) == sorted(super().names(directory))
        return listed

    def facts(self, handle: Handle) -> Facts:
        found, right = self.files.facts(handle), super().facts(handle)
        if handle in _FIXED:
            return right
        assert (found.size, found.target) == (right.size * SCALE, right.target)
        if self.counts_links and not stat.S_ISDIR(found.meta.mode):
            assert found.links == right.links
        meta = found.meta._replace(flags=right.meta.flags)
        if os.geteuid():
            meta = meta._replace(uid=right.meta.uid, gid=right.meta.gid)
        if not self.at(handle).is_dir and not self.at(handle).is_file:  # Linux has no user attributes there
            meta = meta._replace(mode=right.meta.mode, xattrs=right.meta.xattrs)
        assert meta._replace(mtime_ns=0) == right.meta._replace(mtime_ns=0, xattrs=right.meta.xattrs or ())
        return right._replace(meta=meta)

    def extents(self, handle: Handle, lo: int, hi: int) -> Iterator[Extent]:
        found = [
            Extent(extent.lo // SCALE, extent.hi // SCALE, extent.hole)
            for extent in self.files.extents(handle, lo * SCALE, hi * SCALE)
        ]
        node = self.at(handle)
        holes, right = (b"".join(bytes([one.hole]) * (one.hi - one.lo) for one in found), node.holes()[lo:hi])
        assert len(holes) == len(right)
        assert not any(hole and byte for hole, byte in zip(holes, node.data[lo:hi], strict=True))
        assert holes == right or not self._exact_holes
        return super().extents(handle, lo, hi)

    def read(self, handle: Handle, lo: int, hi: int) -> bytes:
        right = super().read(handle, lo, hi)
        assert self.files.read(handle, lo * SCALE, hi * SCALE) == grown(right)
        return right

    def release(self, handle: Handle) -> None:
        super().release(handle)
        self.files.release(handle)

    # ------------------------------------------------------------------------------------------- Replica

    def move(self, directory: Handle, name: bytes, target: Handle, new: bytes) -> None:
        self.files.move(directory, name, target, new)
        with self._model():
            super().move(directory, name, target, new)
        self._touched(directory, target)

    def link(self, handle: Handle, target: Handle, new: bytes) -> None:
        self.files.link(handle, target, new)
        with self._model():
            super().link(handle, target, new)
        self._touched(target)

    def remove(self, directory: Handle, name: bytes) -> None:
        self.files.remove(directory, name)
        with self._model():
            super().remove(directory, name)
        self._touched(directory)

    def _touched(self, *handles: Handle) -> None:
        """A file system gives an object a time with each change. When the history changes it by itself, the old time
        comes back by `set_meta`, or it was an accident before."""
        for handle in set(handles) - set(_FIXED):
            node = self.at(handle)
            node.meta = node.meta._replace(mtime_ns=self.files.facts(handle).meta.mtime_ns)
            node.accidental = True

    def truncate(self, handle: Handle, size: int) -> None:
        self.files.truncate(handle, size * SCALE)
        with self._model():
            super().truncate(handle, size)
        self._touched(handle)

    def write(self, handle: Handle, lo: int, data: Buffer) -> None:
        self.files.write(handle, lo * SCALE, grown(data))
        with self._model():
            super().write(handle, lo, data)
        self._touched(handle)

    def punch(self, handle: Handle, lo: int, hi: int) -> None:
        self.files.punch(handle, lo * SCALE, hi * SCALE)
        with self._model():
            super().punch(handle, lo, hi)
        self._touched(handle)

    def set_meta(self, handle: Handle, meta: Meta) -> None:
        self.files.set_meta(handle, meta)
        with self._model():
            super().set_meta(handle, meta)

    def flush(self) -> None:
        self.files.flush()
        super().flush()
        self.compare()

    # ------------------------------------------------------------------------------------------- primitive steps

    @contextmanager
    def _model(self) -> Iterator[None]:
        """Within the block, changes are those of the model alone."""
        self._model_alone = True
        yield
        self._model_alone = False

    def do(self, *step: Any) -> None:
        if self._model_alone:
            super().do(*step)
            return
        kind, node, *rest = step
        if kind in ("mv", "unlink"):
            self._change_names(step)
            super().do(*step)
        elif kind in ("link", "new"):
            with self._of(rest[0]) as directory:
                if kind == "new" or not self._is_there(node):  # it was in a tree that its new name has replaced
                    self._make(node, directory, rest[1])
                else:
                    with self._of(node) as handle:
                        self.files.link(handle, directory, rest[1])
            super().do(*step)
        else:
            super().do(*step)
            with self._of(node) as handle:
                self._change(handle, kind, node, rest)

    def _change_names(self, step: tuple[Any, ...]) -> None:
        _, _, directory, name, *rest = step
        with self._of(directory) as source:
            if not rest:
                self.files.remove(source, name)
                return
            with self._of(rest[0]) as target:
                if rest[0] is self.staging:
                    self.files.remove(target, rest[1])  # a staging file that moves along replaces what is there
                self.files.move(source, name, target, rest[1])

    def _change(self, handle: Handle, kind: str, node: Inode, rest: list[Any]) -> None:
        if kind in ("touch", "meta"):
            self.files.set_meta(handle, node.meta)
        elif kind == "write":
            self.files.write(handle, rest[0] * SCALE, grown(rest[1]))
        elif kind == "punch":
            self.files.punch(handle, rest[0] * SCALE, rest[1] * SCALE)
        else:
            self.files.truncate(handle, rest[0] * SCALE)

    def cut_power(self) -> None:
        with self._model():
            super().cut_power()
        self.files.close()
        self._begin()

    def close(self) -> None:
        """Closes the files."""
        self.files.close()


def _way(top: Inode, node: Inode) -> tuple[bytes, ...] | None:
    """Names that lead from the one object to the other; None: nothing does."""
    if top is node:
        return ()
    for name, child in top.entries.items():
        way = _way(child, node)
        if way is not None:
            return (name, *way)
    return None
