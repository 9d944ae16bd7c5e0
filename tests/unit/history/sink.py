"""Carries out records on a `Disk`, step by step, and keeps what would be lost as the plan says."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from typing import Any

from i2core.api.records import Kind, Meta, Record
from i2core.history.plan.capture import merged
from i2core.history.plan.step import Restore, Step
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE, Inode

from .disk import Disk


class Sink:
    """A method for each kind of record."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def carry_out(self, step: Step) -> Iterator[Inode | None]:
        """Carries out the record, with a stop before each primitive step; the last value is what it made."""
        record = step.record
        made: list[Inode] = []
        name = "restore" if isinstance(record, Restore) else record.kind.name.lower()
        run: Callable[..., Iterator[None]] = getattr(self, "_" + name)
        for _ in run(record, step.keeps, made):
            yield None
        yield made[0] if made else None

    def _lose(self, directory: Inode, name: bytes, shown: bytes, keeps: dict[bytes, int]) -> Iterator[None]:
        node = directory.entries.get(name)
        if node is not None:
            yield
            if shown in keeps:
                self._disk.do("mv", node, directory, name, self._disk.store, b"%d" % keeps[shown])
            else:
                self._disk.do("unlink", node, directory, name)

    def _put(self, record: Record, keeps: dict[bytes, int], node: Inode, made: list[Inode]) -> Iterator[None]:
        place = self._disk.place(record.path)
        if place is None or not record.path:
            return
        directory, name = place
        yield
        self._disk.do("touch", directory)
        yield from self._lose(directory, name, record.path, keeps)
        yield
        self._disk.do("new", node, directory, name)
        self._unstage(record.path)
        made.append(node)

    def _unstage(self, path: bytes) -> None:
        key = b"0/" + path
        if path in self._disk.staged:
            self._disk.staged.discard(path)
        elif key in self._disk.staging.entries:
            self._disk.do("unlink", self._disk.staging.entries[key], self._disk.staging, key)

    def _create(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        node = self._disk.inode(record.meta or EMPTY_FILE)
        node.write(0, record.data)
        return self._put(record, keeps, node, made)

    def _symlink(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        assert record.meta
        return self._put(record, keeps, self._disk.inode(record.meta, record.other), made)

    def _mknod(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        assert record.meta
        node = self._disk.inode(record.meta)
        node.device = record.size
        return self._put(record, keeps, node, made)

    def _mkdir(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        node = self._disk.walk(record.path)
        if node is not None and node.is_dir:
            return self._setattr(record, keeps, made)
        return self._put(record, keeps, self._disk.inode(record.meta or DIRECTORY), made)

    def _stage(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        key = b"0/" + record.path
        if self._disk.place(record.path) is not None and record.size != 1:
            yield
            self._disk.do("new", self._disk.inode(EMPTY_FILE), self._disk.staging, key)
            self._disk.staged.add(record.path)

    def _publish(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        place, key = self._disk.place(record.path), b"0/" + record.path
        if place is None:
            return
        directory, name = place
        staged = self._disk.staging.entries.get(key)
        if staged is None:
            return
        assert record.meta
        yield
        self._disk.do("truncate", staged, record.size)
        self._disk.do("meta", staged, merged(staged.meta, record.meta))
        yield
        self._disk.do("touch", directory)
        yield from self._lose(directory, name, record.path, keeps)
        yield
        self._disk.do("mv", staged, self._disk.staging, key, directory, name)
        self._disk.staged.discard(record.path)
        made.append(staged)

    def _file(self, record: Record) -> Inode | None:
        node = self._disk.staging.entries.get(b"0/" + record.path) if record.staged else self._disk.walk(record.path)
        return node if node is not None and node.is_file else None

    def _content(self, record: Record, kind: str, *values: Any) -> Iterator[None]:
        node = self._file(record)
        if node is not None:
            yield
            self._disk.do(kind, node, *values)
            if not record.staged:
                self._disk.do("touch", node)

    def _write(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        return self._content(record, "write", record.offset, bytes(record.data)) if record.data else iter(())

    def _punch(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        return self._content(record, "punch", record.offset, record.offset + record.size)

    def _truncate(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        return self._content(
            record, "truncate", record.size
        )  # also to the size that it has: ftruncate(2) sets the time

    def _link(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        place, node = self._disk.place(record.path), self._disk.walk(record.other)
        if place is None or node is None or node.is_dir or place[0].entries.get(place[1]) is node:
            return
        yield
        self._disk.do("touch", place[0])
        yield from self._lose(*place, record.path, keeps)
        yield
        self._disk.do("link", node, *place)

    def _rename(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        old, new = record.path, record.other
        source, target = self._disk.place(old), self._disk.place(new)
        if old == new or old.startswith(new + b"/") or new.startswith(old + b"/") or source is None or target is None:
            return
        node, there = source[0].entries.get(source[1]), target[0].entries.get(target[1])
        if node is None:
            return
        yield
        self._disk.do("touch", source[0])
        self._disk.do("touch", target[0])
        if there is node:
            yield
            self._disk.do("unlink", node, *source)
            return
        yield from self._lose(*target, new, keeps)
        yield
        self._disk.do("mv", node, *source, *target)
        self._move_staged(b"0/" + old, b"0/" + new)

    def _move_staged(self, old: bytes, new: bytes) -> None:
        for key, node in list(self._disk.staging.entries.items()):
            if key.startswith(old + b"/"):
                self._disk.do("mv", node, self._disk.staging, key, self._disk.staging, new + key[len(old) :])

    def _restore(self, record: Restore, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        place = self._disk.place(record.path)
        *above, name = record.kept.split(b"/")
        directory = self._disk.store
        for part in above:
            directory = directory.entries.get(part, self._disk.inode(DIRECTORY))
        if place is None or name not in directory.entries:
            return  # the record that was to move it there has failed
        yield
        self._disk.do("touch", place[0])
        if directory is not self._disk.store:
            self._disk.do("touch", directory)
        yield from self._lose(*place, record.path, keeps)
        yield
        self._disk.do("mv", directory.entries[name], directory, name, *place)

    def _remove(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        key = b"0/" + record.path
        if record.staged:
            if key in self._disk.staging.entries:
                yield
                self._disk.do("unlink", self._disk.staging.entries[key], self._disk.staging, key)
            self._disk.staged.discard(record.path)
            return
        place = self._disk.place(record.path) if record.path else None
        lost = [(self._disk.root, name, name) for name in sorted(self._disk.root.entries)]
        if record.path:
            lost = [(*place, record.path)] if place is not None and place[1] in place[0].entries else []
        for directory, name, shown in lost:
            yield
            self._disk.do("touch", directory)
            yield from self._lose(directory, name, shown, keeps)
        if lost:
            for staged in [staged for staged in self._disk.staging.entries if staged.startswith(key + b"/")]:
                self._disk.do("unlink", self._disk.staging.entries[staged], self._disk.staging, staged)
        self._unstage(record.path)

    def _setattr(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        node = self._disk.walk(record.path)
        if node is not None and record.meta is not None:
            yield
            self._set(node, record.meta)

    def _set(self, node: Inode, meta: Meta) -> None:
        if stat.S_IFMT(meta.mode) == stat.S_IFMT(node.meta.mode):
            self._disk.do("meta", node, merged(node.meta, meta))

    def _barrier(self, record: Record, keeps: dict[bytes, int], made: list[Inode]) -> Iterator[None]:
        return iter(())


assert {kind.name.lower() for kind in Kind} <= {name[1:] for name in dir(Sink) if name.startswith("_")}
