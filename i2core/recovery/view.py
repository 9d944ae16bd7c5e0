"""What a destination is to contain, as one tree: parts of other trees, each at its place.

    parts   (root 0, a/b) → a/b      (root 1, "") → srv/www
    view    ""  shell: a, srv
            a   shell: b                 srv  shell: www
            a/b … read from root 0       srv/www … read from root 1

A shell is a directory that only leads to parts. If it is missing at the destination it is made, with the attributes of
the directory of that path where the part comes from. One that is there is left as it is, and so is everything else in
it: who recovers one file does not want to see the mode of its directory changed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import xxhash

from i2core.api import Entry, Filter, Place, Xattrs
from i2core.api.changes import join
from i2core.api.inode_flags import UNREAD
from i2core.api.tree import OpenDirectory, OpenFile, Tree
from i2core.posix.errnos import GONE
from i2core.recovery.parts import Part, wants_all

_SHELL_DEVICE = (1 << 63) - 1
"""Of no disk: no shell has the identity of an object of a part."""


class View(Tree):
    """The parts as one tree. `path` is what people call the destination. The trees of the parts stay the caller's."""

    def __init__(self, path: bytes, parts: Sequence[Part]) -> None:
        self.path = path
        self.flags = bool(parts) and parts[0].root.tree.flags
        self._parts = {part.at: part for part in parts}
        self._made_ns = time.time_ns()
        self._shells: dict[bytes, dict[bytes, None]] = {}
        """Names that lead to parts, by the path of the shell."""
        self._models: dict[bytes, tuple[Part, bytes]] = {}
        """The directories after which shells are made: a part and a path in its tree."""
        for part in parts:
            self._lead_to(part)
        top = list(self._shells.get(b"", ()))
        self.only = top[0] if len(top) == 1 else None

    def _lead_to(self, part: Part) -> None:
        """Adds the shells above a part. One is made after the directory from which the same names lead to the part in
        its tree."""
        (above, _, name), model = part.at.rpartition(b"/"), part.path
        while name:
            self._shells.setdefault(above, {})[name] = None
            model, _, last = model.rpartition(b"/")
            if last == name:
                self._models.setdefault(above, (part, model))
            else:
                model = b""  # and nothing above it has a model
            above, _, name = above.rpartition(b"/")

    def is_shell(self, path: bytes) -> bool:
        """True for a directory that only leads to parts."""
        return path in self._shells

    def filter(self) -> ViewFilter | None:
        """What belongs to the view; None: everything beneath the destination."""
        if not self._shells and all(part.root.wants is wants_all for part in self._parts.values()):
            return None
        return ViewFilter(self)

    def origin(self, path: bytes) -> tuple[Part, bytes] | None:
        """The part that has this path, and the path beneath the part's root; None: a shell has it, or nothing."""
        at, rest = path, b""
        while True:
            part = self._parts.get(at)
            if part is not None:
                return part, _joined(part.path, rest)
            if not at:
                return None
            at, _, name = at.rpartition(b"/")
            rest = _joined(name, rest)

    def shells(self) -> Iterable[bytes]:
        """The paths of all of them."""
        return self._shells

    def names_in(self, path: bytes) -> Collection[bytes]:
        """The names in a shell."""
        return self._shells[path]

    def directory(self, path: bytes) -> OpenDirectory:
        if path in self._shells:
            return ShellDirectory(self, path)
        found = self.origin(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found[0].root.tree.directory(found[1])

    def lookup(self, path: bytes) -> Entry | None:
        name = path.rpartition(b"/")[2]
        if path in self._shells:
            return self.shell_entry(path)._replace(name=name)
        found = self.origin(path)
        if found is None:
            return None
        entry = found[0].root.tree.lookup(found[1])
        return None if entry is None else entry._replace(name=name)

    def shell_entry(self, path: bytes) -> Entry:
        """The attributes with which a shell is made, with an empty name."""
        ino = xxhash.xxh3_64_intdigest(path)
        own = {"name": b"", "size": 0, "nlink": 1, "ino": ino, "dev": _SHELL_DEVICE, "ctime_ns": self._made_ns}
        model = self._models.get(path)
        entry = None if model is None else model[0].root.tree.lookup(model[1])
        if entry is not None and stat.S_ISDIR(entry.mode):
            return entry._replace(**own)  # type: ignore[arg-type]
        flags = 0 if self.flags else UNREAD
        plain = Entry(b"", stat.S_IFDIR | 0o755, os.geteuid(), os.getegid(), 0, self._made_ns, flags=flags)
        return plain._replace(**own)  # type: ignore[arg-type]

    def shell_xattrs(self, path: bytes) -> Xattrs | None:
        """The extended attributes with which a shell is made."""
        model = self._models.get(path)
        if model is None:
            return ()
        try:
            with model[0].root.tree.directory(model[1]) as directory:
                return directory.xattrs(b"")
        except OSError as error:
            if error.errno in GONE:
                return ()
            raise

    def is_present(self) -> bool:
        return all(part.root.tree.is_present() for part in self._parts.values())

    @contextmanager
    def job(self) -> Iterator[None]:
        with ExitStack() as stack:
            for tree in {id(part.root.tree): part.root.tree for part in self._parts.values()}.values():
                stack.enter_context(tree.job())
            yield

    def close(self) -> None:
        """The trees of the parts stay open."""


class ViewFilter(Filter):
    """What belongs to a view: in a shell only what leads to parts, in a part what its rule protects."""

    def __init__(self, view: View) -> None:
        self._view = view

    def wants(self, place: Place, is_dir: bool) -> bool:
        if self._view.is_shell(place.path):
            return True
        found = self._view.origin(place.path)
        return found is not None and (not found[1] or found[0].root.wants(found[1], is_dir))


class ShellDirectory(OpenDirectory):
    """A directory that only leads to parts."""

    __slots__ = ("_path", "_view")

    def __init__(self, view: View, path: bytes) -> None:
        self._view = view
        self._path = path

    def here(self) -> Entry:
        return self._view.shell_entry(self._path)

    def entry(self, name: bytes) -> Entry | None:
        return self._view.lookup(join(self._path, name)) if name in self._view.names_in(self._path) else None

    def names(self, most: int) -> Iterator[list[bytes]]:
        for name in self._view.names_in(self._path):
            yield [name]

    def xattrs(self, name: bytes) -> Xattrs | None:
        at = join(self._path, name) if name else self._path
        if self._view.is_shell(at):
            return self._view.shell_xattrs(at)
        found = self._view.origin(at)
        if found is None:
            return ()
        part, path = found
        above, _, own = path.rpartition(b"/")
        with part.root.tree.directory(above) as directory:
            return directory.xattrs(own)

    def open(self, name: bytes) -> OpenFile:
        found = self._view.origin(join(self._path, name))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        part, path = found
        above, _, own = path.rpartition(b"/")
        with part.root.tree.directory(above) as directory:
            file = directory.open(own)
        return file if own == name else RenamedFile(file, name)

    def kernel_flags(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing is open."""


class RenamedFile(OpenFile):
    """A file that has another name in the view than in its tree."""

    __slots__ = ("_file", "_name")

    def __init__(self, file: OpenFile, name: bytes) -> None:
        self._file = file
        self._name = name

    def read(self, start: int, length: int) -> memoryview:
        return self._file.read(start, length)

    def next_data(self, at: int) -> int | None:
        return self._file.next_data(at)

    def next_hole(self, at: int) -> int | None:
        return self._file.next_hole(at)

    def entry(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._file.entry(xattrs, flags)._replace(name=self._name)

    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._file.as_opened(xattrs, flags)._replace(name=self._name)

    def xattrs(self) -> Xattrs:
        return self._file.xattrs()

    def flags(self) -> int:
        return self._file.flags()

    def kernel_flags(self) -> int:
        return self._file.kernel_flags()

    def close(self) -> None:
        self._file.close()


def _joined(path: bytes, rest: bytes) -> bytes:
    return join(path, rest) if rest else path
