"""Random records, of all kinds, most of them about what is there."""

from __future__ import annotations

import random
import stat

from i2core.api.inode_flags import UNREAD
from i2core.api.records import Kind, Meta, Record
from i2core.testing.memory_replica import Inode

from .disk import Disk

_KINDS = {
    "create": 8, "write": 12, "append": 5, "punch": 5, "truncate": 6, "staged": 4, "publish": 1, "mkdir": 7, "symlink":
    1, "mknod": 1, "link": 5, "rename": 8, "remove": 5, "setattr": 7, "recreate": 3, "rewrite": 1,
}  # fmt: skip


class Records:
    """Makes records for the tree as it is."""

    def __init__(self, rng: random.Random, disk: Disk) -> None:
        self.rng, self.disk = rng, disk
        self.paths: list[bytes] = []
        self.dirs: list[bytes] = []
        self.files: list[bytes] = []

    def some(self) -> list[Record]:
        """Records that belong together."""
        self._look()
        (kind,) = self.rng.choices(list(_KINDS), list(_KINDS.values()))
        found: list[Record] = getattr(self, "_" + kind)()
        return found

    def _look(self) -> None:
        self.paths, self.dirs, self.files = [], [b""], []

        def go(node: Inode, path: bytes) -> None:
            for name, child in node.entries.items():
                below = path + b"/" + name if path else name
                self.paths.append(below)
                if child.is_dir:
                    self.dirs.append(below)
                    go(child, below)
                elif child.is_file:
                    self.files.append(below)

        go(self.disk.root, b"")

    # ------------------------------------------------------------------------------------------- choices

    def _new(self) -> bytes:
        above = self.rng.choice([path for path in self.dirs if path.count(b"/") < 4])
        name = self.rng.choice((b"a", b"b", b"c", b"d"))
        return above + b"/" + name if above else name

    def _any(self) -> bytes:
        return self.rng.choice(self.paths) if self.paths and self.rng.random() < 0.85 else self._new()

    def _one(self) -> bytes:
        return self.rng.choice(self.files) if self.files and self.rng.random() < 0.9 else self._new()

    def _bytes(self, size: int) -> bytes:
        return bytes(self.rng.randrange(1, 256) for _ in range(size))

    def _meta(self, kind: int = stat.S_IFREG, *, full: bool = False) -> Meta:
        pairs = (None, (), ((b"user.a", b"1"),), ((b"user.a", b"2"), (b"user.b", b"x")))
        xattrs = self.rng.choice(pairs[1:] if full else pairs)
        mode = kind | self.rng.choice((0o600, 0o644)) | 0o100 * stat.S_ISDIR(kind)
        flags = self.rng.choice((0, 16) if full else (0, 16, UNREAD))
        return Meta(mode, self.rng.randrange(2), 0, self.rng.randrange(10**6), xattrs, flags)

    def _size(self, path: bytes) -> int:
        node = self.disk.walk(path)
        return len(node.data) if node else 0

    # ------------------------------------------------------------------------------------------- kinds

    def _create(self) -> list[Record]:
        path = self._new() if self.rng.random() < 0.7 else self._one()
        data = self._bytes(self.rng.randrange(40))
        return [Record(Kind.CREATE, 0, path, meta=self._meta(full=True), data=data)]

    def _piece(self, path: bytes, *, staged: bool = False) -> Record:
        at, data = self.rng.randrange(60), self._bytes(self.rng.randrange(1, 24))
        return Record(Kind.WRITE, 0, path, offset=at, data=data, staged=staged)

    def _write(self) -> list[Record]:
        return [self._piece(self._one())]

    def _append(self) -> list[Record]:
        path = self._one()
        return [Record(Kind.WRITE, 0, path, offset=self._size(path), data=self._bytes(self.rng.randrange(1, 9)))]

    def _rewrite(self) -> list[Record]:
        """A block that is written again and again."""
        path = self._one()
        return [Record(Kind.WRITE, 0, path, offset=3, data=self._bytes(3)) for _ in range(self.rng.randrange(3, 12))]

    def _hole(self, path: bytes, *, staged: bool = False) -> Record:
        at, size = self.rng.randrange(40), self.rng.randrange(1, 40)
        return Record(Kind.PUNCH, 0, path, offset=at, size=size, staged=staged)

    def _punch(self) -> list[Record]:
        return [self._hole(self._one())]

    def _truncate(self) -> list[Record]:
        path = self._one()
        count = 1 + (self.rng.random() < 0.5)
        return [Record(Kind.TRUNCATE, 0, path, size=self.rng.randrange(60)) for _ in range(count)]

    def _staged(self) -> list[Record]:
        path = self._new() if self.rng.random() < 0.5 else self._one()
        records = [Record(Kind.STAGE, 0, path)]
        records += [self._piece(path, staged=True) for _ in range(self.rng.randrange(3))]
        if self.rng.random() < 0.3:
            records.append(self._hole(path, staged=True))
        if self.rng.random() < 0.1:
            records.append(Record(Kind.REMOVE, 0, path, staged=True))
        above, _, name = path.rpartition(b"/")
        if above and self.rng.random() < 0.5:
            moved = self._new()
            records.append(Record(Kind.RENAME, 0, above, moved))
            path = moved + b"/" + name
        return records + self._publish(path) + (self._publish(path) if self.rng.random() < 0.2 else [])

    def _publish(self, path: bytes | None = None) -> list[Record]:
        return [Record(Kind.PUBLISH, 0, path or self._one(), meta=self._meta(), size=self.rng.randrange(80))]

    def _mkdir(self) -> list[Record]:
        path = self._new() if self.rng.random() < 0.8 else self._any()
        return [Record(Kind.MKDIR, 0, path, meta=self._meta(stat.S_IFDIR, full=True))]

    def _symlink(self) -> list[Record]:
        return [Record(Kind.SYMLINK, 0, self._new(), self._bytes(3), meta=self._meta(stat.S_IFLNK, full=True))]

    def _mknod(self) -> list[Record]:
        return [
            Record(Kind.MKNOD, 0, self._new(), meta=self._meta(stat.S_IFIFO, full=True), size=self.rng.randrange(3))
        ]

    def _link(self) -> list[Record]:
        new, old = self._new() if self.rng.random() < 0.8 else self._one(), self._one()
        records = [Record(Kind.LINK, 0, new, old)]
        if self.rng.random() < 0.3:
            records.append(Record(Kind.REMOVE, 0, old))
        if self.rng.random() < 0.4:
            records.append(Record(Kind.WRITE, 0, new, data=self._bytes(9)))
        return records

    def _rename(self) -> list[Record]:
        return [Record(Kind.RENAME, 0, self._any(), self._new() if self.rng.random() < 0.5 else self._any())]

    def _remove(self) -> list[Record]:
        path = b"" if self.rng.random() < 0.03 else self._any()
        return [Record(Kind.REMOVE, 0, path)]

    def _recreate(self) -> list[Record]:
        path, data = self._any(), self._bytes(self.rng.randrange(40))
        return [Record(Kind.REMOVE, 0, path), Record(Kind.CREATE, 0, path, meta=self._meta(full=True), data=data)]

    def _setattr(self) -> list[Record]:
        path = self._any() if self.rng.random() < 0.95 else b""
        node = self.disk.walk(path)
        kind = stat.S_IFMT(node.meta.mode) if node else stat.S_IFREG
        return [Record(Kind.SETATTR, 0, path, meta=self._meta(kind))]
