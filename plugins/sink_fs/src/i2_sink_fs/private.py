"""The private directory: here the sink creates objects that are then moved into the replica in one step.

It lies in the topmost directory of the replica on each file system. From there rename(2) reaches everything on that
file system. Only this process's user can enter it. Its name cannot be guessed, and no record may use it. It exists only
while there is something in it. The one in a root itself stays until the next flush, since creating and removing it
costs more than the record that needs it (see `home.py`).

    <top>/.i2-staging-<32 hex digits>/   0700
        new-<hex>                        an object that is about to replace another (`Placer.replace`)
        tree-<hex>/dir/sub/name          the staging file of dir/sub/name (`Staging`)

Some directories cannot be reached by rename(2) from there (EXDEV: a bind mount, a project quota). Such a directory gets
a private directory of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import exists
from i2core.api import StopRule
from i2core.api.changes import join
from i2core.posix.errnos import GONE, PASSING
from i2core.posix.removal import prune, remove, remove_empty


class Private:
    """The private directories as one call of the sink opens them."""

    def __init__(self, directories: Directories, kept: Kept) -> None:
        self.directories = directories
        self.kept = kept
        self._names = kept.names
        self._missing: set[tuple[int, bytes]] = set()
        """Root and path of what this call has not found."""
        self._checked: dict[tuple[int, bytes], Directory] = {}
        """By root and path of the directory that it is in: private directories that are known to be this process's."""

    def top(self, root: int, path: bytes) -> bytes:
        """The topmost directory on the way to the directory `path` that is on its file system."""
        find, top = self.directories.find, path
        device = find(root, path).device
        if find(root, b"").device == device:
            return b""
        while (above := top.rpartition(b"/")[0]) and find(root, above).device == device:
            top = above
        return top

    def bases(self, root: int, path: bytes) -> Iterator[bytes]:
        """The directories whose private directory may serve the directory `path`: first the usual one, then itself."""
        top = self.top(root, path)
        yield top
        if path != top:
            yield path

    def find(self, root: int, base: bytes) -> Directory | None:
        """The private directory in the directory `base`; None when there is none that this process has made."""
        path = join(base, self._names.private[root])
        found = self.enter(root, path)
        if found is None or found is self._checked.get((root, base)):
            return found
        if self.kept.traits(root, self.directories.find(root, base)).is_private(os.fstat(found.fd)):
            self._checked[root, base] = found
            if base:
                self.kept.homes[root].nested.add(base)
            else:
                self.kept.homes[root].found()
            return found
        self.directories.forget(root, path)
        self._missing.add((root, path))
        return None

    def make(self, root: int, base: bytes) -> Directory:
        """The private directory in the directory `base`, made where there is none.

        Raises:
            PermissionError: somebody else removes or replaces it at once.
        """
        there = self.find(root, base)
        if there is not None:
            return there
        above, name = self.directories.find(root, base), self._names.private[root]
        with self.kept.unnoticed(above.fd):
            try:
                os.mkdir(name, 0o700, dir_fd=above.fd)
            except FileExistsError:
                remove(above.fd, name)  # whatever it is: no record may use this name
                os.mkdir(name, 0o700, dir_fd=above.fd)
        self._missing.discard((root, join(base, name)))
        made = self.find(root, base)
        if made is None:
            raise PermissionError(errno.EACCES, "another process removes or replaces the sink's private directory")
        if not base:
            self.kept.homes[root].stages = False
        return made

    def enter(self, root: int, path: bytes) -> Directory | None:
        """The directory at `path`, which is or lies in a private one; None when there is none."""
        if (root, path) in self._missing:
            return None
        try:
            return self.directories.enter(root, path)
        except OSError as error:
            if error.errno not in GONE:
                raise
            self._missing.add((root, path))
            return None

    def enter_new(self, root: int, path: bytes) -> Directory:
        """The directory at `path`, which was just made."""
        self._missing.discard((root, path))
        return self.directories.enter(root, path)

    def remove_foreign(self, root: int, base: bytes) -> None:
        """Removes what has the name of the private directory in the directory `base` and was not made by this
        process."""
        above, name = self.directories.find(root, base), self._names.private[root]
        if self.find(root, base) is None and exists(above.fd, name):
            with self.kept.unnoticed(above.fd):
                remove(above.fd, name)

    def clean(self) -> None:
        """Removes the empty private directories."""
        self.clean_nested()
        for root in range(len(self.kept.homes)):
            self.clean_home(root)

    def clean_nested(self) -> None:
        """Removes the empty ones that are deeper than in a root itself."""
        for root, home in enumerate(self.kept.homes):
            for base in list(home.nested):
                self._clean(root, base)

    def clean_home(self, root: int) -> None:
        """Removes the one in the root itself when it is empty."""
        home = self.kept.homes[root]
        if home.made and self._clean(root, b""):
            home.made = home.stages = False
            home.removal_on = self.directories.find(root, b"").device

    def _clean(self, root: int, base: bytes) -> bool:
        """Removes the private directory in the directory `base`; False when there is something in it."""
        home = self.find(root, base)
        if home is not None and not self._retire(root, base, home):
            return False
        self.kept.homes[root].nested.discard(base)
        return True

    def _retire(self, root: int, base: bytes, home: Directory) -> bool:
        above, name = self.directories.find(root, base), self._names.private[root]
        with self.kept.unnoticed(above.fd):
            if not remove_empty(above.fd, name):
                remove(home.fd, self._names.new[root])  # left by a killed process: no record is at work now
                prune(home.fd, self._names.tree[root])
                if not remove_empty(above.fd, name):
                    return False
        self.directories.forget(root, join(base, name))
        self._missing.add((root, join(base, name)))
        return True


def clean_homes(open_directories: Callable[[], Directories], kept: Kept) -> None:
    """Removes the private directories in the roots, where nothing is in them and no call is at work. What cannot be
    removed is tried again by the next flush.

    Raises:
        OSError: descriptors or memory are lacking for the moment. The caller tries again: no other flush may follow.
    """
    if kept.at_rest:
        return
    with open_directories() as directories:
        private = Private(directories, kept)
        for root, home in enumerate(kept.homes):
            if home.busy.acquire(blocking=False):
                try:
                    with contextlib.suppress(StopRule):
                        private.clean_home(root)
                except OSError as error:
                    if error.errno in PASSING:
                        raise
                finally:
                    home.busy.release()
