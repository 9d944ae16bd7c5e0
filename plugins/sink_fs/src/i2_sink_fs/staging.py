"""Staging files: a large file arrives in pieces, and is renamed into the replica when it is complete.

A staging file lies in a private directory and has the path of its final file there. So it is found after a restart, and
follows its directory when that is renamed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator

from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import IllegalPath, exists, mode_of, proc_path
from i2_sink_fs.private import Private
from i2core.api import Place
from i2core.api.changes import join
from i2core.api.records import safe_name
from i2core.posix.errnos import GONE
from i2core.posix.opening import NEW_FILE
from i2core.posix.removal import prune, remove

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


class Staging:
    """The staging files in the private directories that one call of the sink opens."""

    def __init__(self, private: Private) -> None:
        self._private = private
        self._directories = private.directories
        self._kept = private.kept
        self._bare: set[tuple[int, bytes]] = set()
        """Root and path of directories that have no staging files."""

    def stage(self, place: Place, *, again: bool) -> None:
        """Makes an empty staging file for `place`; with `again` one that is there stays as it is."""
        root, path = place
        self._bare.clear()
        above, _, name = path.rpartition(b"/")
        for base in (bases := list(self._private.bases(root, above))):
            where = self._make_tree(root, base, above)
            if not (again and stat.S_ISREG(mode_of(where.fd, name))):
                remove(where.fd, name)
                os.close(os.open(name, NEW_FILE, 0o600, dir_fd=where.fd))
            if base == bases[-1] or self._reaches(where.fd, name, root, above):
                break
            remove(where.fd, name)
        self._kept.staging.add(place)

    def _reaches(self, staging_fd: int, name: bytes, root: int, path: bytes) -> bool:
        """True when rename(2) can move the staging file into the directory `path`. This is tried with link(2), which
        fails for the same reasons, before gigabytes are written into the file."""
        directory, private = self._directories.find(root, path), self._kept.names.private[root]
        with self._kept.unnoticed(directory.fd):
            try:
                os.link(name, private, src_dir_fd=staging_fd, dst_dir_fd=directory.fd, follow_symlinks=False)
            except FileExistsError:
                if self._private.find(root, path) is not None:
                    return False  # it needed a private directory of its own before
                remove(directory.fd, private)
                return True
            except OSError as error:
                if error.errno == errno.EXDEV:
                    return False
                if error.errno not in _NO_LINKS:
                    raise
                return True
            os.unlink(private, dir_fd=directory.fd)
        return True

    def staged(self, place: Place) -> tuple[int, bytes] | None:
        """The directory that holds the staging file of `place`, and the name there; None when there is none."""
        root, path = place
        above, _, name = path.rpartition(b"/")
        for base in self._private.bases(root, above):
            where = self._tree(root, base, above)
            if where is not None and exists(where.fd, name):
                return where.fd, name
        return None

    def find(self, place: Place) -> tuple[int, bytes] | None:
        """As `staged`, also where the file's directory is not in the replica."""
        root, path = place
        above, _, name = path.rpartition(b"/")
        for base in self._private.bases(root, self._nearest(root, above)):
            where = self._tree(root, base, above)
            if where is not None and not stat.S_ISDIR(mode_of(where.fd, name) or stat.S_IFDIR):
                return where.fd, name
        return None

    def rooms(self, place: Place) -> Iterator[tuple[int, bytes]]:
        """Where a staging file of `place` can be: in each private directory that may serve it, the usual one first.
        The directories are made."""
        root, path = place
        above, _, name = path.rpartition(b"/")
        self._bare.clear()
        for base in self._private.bases(root, self._nearest(root, above)):
            where = self._make_tree(root, base, above)
            if stat.S_ISDIR(mode_of(where.fd, name)):
                prune(where.fd, name)  # it was for staging files beneath, which are gone
            yield where.fd, name

    def paths(self, root: int) -> Iterator[bytes]:
        """The paths of all files that have a staging file, in any order. Private directories deeper than in the root
        itself count if this process has met them."""
        for base in (b"", *list(self._kept.homes[root].nested)):
            waiting = [base]
            while waiting:
                path = waiting.pop()
                self._directories.trim()
                where = self._tree(root, base, path)
                for name in () if where is None else os.listdir(proc_path(where.fd)):
                    assert where is not None
                    if stat.S_ISDIR(mode_of(where.fd, name)):
                        waiting.append(join(path, name))
                    else:
                        yield join(path, name)

    def published(self, place: Place) -> None:
        """Notes that the staging file of `place` has become the file itself."""
        self._kept.staging.discard(place)

    def drop(self, place: Place) -> None:
        """Ends the staging of `place`, and removes its staging file as `unstage`."""
        self.unstage(place)
        self._kept.staging.discard(place)

    def drop_stale(self, place: Place) -> None:
        """Removes the staging file that an earlier run left, when the file is created or removed by other means.

        A file that is being staged now keeps it: otherwise records in flight would be written into the file itself. The
        file loses this protection here, so that an abandoned transfer does not leave its staging file for good."""
        if place in self._kept.staging:
            self._kept.staging.discard(place)
        else:
            self.unstage(place)

    def unstage(self, place: Place, *, beneath: bool = False) -> None:
        """Removes the staging file of `place` and those of all places beneath it, which need not be in the replica;
        with `beneath` only the latter.

        Raises:
            IllegalPath: no record may use this path.
        """
        root, path = place
        if not path:
            self._unstage_all(root)
            return
        above, _, name = path.rpartition(b"/")
        if not safe_name(name):
            raise IllegalPath(f"the name {os.fsdecode(name)!r} cannot be replicated")
        if (root, above) in self._bare:
            return
        found, near = False, self._nearest(root, above)
        for base in self._private.bases(root, near):
            if base and base == near and base not in self._kept.homes[root].nested:
                continue
            if not base and not self._kept.homes[root].stages:
                continue
            where = self._tree(root, base, above)
            if where is not None:
                found = True
                if not beneath or stat.S_ISDIR(mode_of(where.fd, name)):
                    self._directories.forget(root, self._tree_path(root, base, path))
                    remove(where.fd, name)
        if not found:
            self._bare.add((root, above))

    def _unstage_all(self, root: int) -> None:
        for base in (b"", *self._kept.homes[root].nested):
            home = self._private.find(root, base)
            if home is not None:
                self._directories.forget(root, self._tree_path(root, base, base))
                remove(home.fd, self._kept.names.tree[root])

    def _nearest(self, root: int, path: bytes) -> bytes:
        """The directory `path`, or the first one above it that can be reached."""
        while path:
            try:
                self._directories.find(root, path)
                break
            except OSError as error:
                if error.errno not in (*GONE, errno.EACCES):
                    raise
            path = path.rpartition(b"/")[0]
        return path

    def moved(self, root: int, old: bytes, new: bytes) -> None:
        """The directory `old` is now `new`: the staging files of places beneath it are moved too."""
        above, _, name = old.rpartition(b"/")
        new_above, _, new_name = new.rpartition(b"/")
        base = self._private.top(root, new_above)
        if base and not old.startswith(base + b"/"):
            return
        source = self._tree(root, base, above)
        # A file there is the staging file of a later file with the directory's old name: it stays.
        if source is None or not stat.S_ISDIR(mode_of(source.fd, name)):
            return
        self._bare.clear()
        target = self._make_tree(root, base, new_above)
        for path in (old, new):
            self._directories.forget(root, self._tree_path(root, base, path))
        remove(target.fd, new_name)
        os.rename(name, new_name, src_dir_fd=source.fd, dst_dir_fd=target.fd)

    def leftovers(self, root: int, path: bytes) -> bool:
        """True when a private directory above `path` has staging files for the directory `path`."""
        base = self._private.top(root, path)
        where = None if base == path else self._tree(root, base, path)
        try:
            return where is not None and bool(os.listdir(proc_path(where.fd)))
        except FileNotFoundError:  # a flush has just removed it: it was empty
            return False

    def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        """As `Sink.tidy`."""
        root, path = place
        directory = self._directories.find(root, path)
        went = False
        for base in self._private.bases(root, path):
            where = self._tree(root, base, path)
            for name in () if where is None else os.listdir(proc_path(where.fd)):
                assert where is not None
                alive = stat.S_ISDIR(mode_of(where.fd, name)) and stat.S_ISDIR(mode_of(directory.fd, name))
                if alive or name in staged:
                    continue
                self._directories.forget(root, self._tree_path(root, base, join(path, name)))
                remove(where.fd, name)
                went = True
        self._private.remove_foreign(root, path)
        self._private.clean()
        return went

    def _tree_path(self, root: int, base: bytes, path: bytes) -> bytes:
        """The path of what is staged for `path`, within the private directory in `base`."""
        top = join(join(base, self._kept.names.private[root]), self._kept.names.tree[root])
        return join(top, path[len(base) + 1 :] if base else path).rstrip(b"/")

    def _tree(self, root: int, base: bytes, path: bytes) -> Directory | None:
        """Where the staging files of the directory `path` are, within the private directory in `base`."""
        if self._private.find(root, base) is None:
            return None
        return self._private.enter(root, self._tree_path(root, base, path))

    def _make_tree(self, root: int, base: bytes, path: bytes) -> Directory:
        """As `_tree`; makes what is missing."""
        where = self._private.make(root, base)
        if not base:
            self._kept.homes[root].stages = True
        at = join(base, self._kept.names.private[root])
        for part in self._tree_path(root, base, path)[len(at) + 1 :].split(b"/"):
            at = join(at, part)
            deeper = self._private.enter(root, at)
            if deeper is None:
                remove(where.fd, part)  # the staging file of what was a file here
                os.mkdir(part, 0o700, dir_fd=where.fd)
                deeper = self._private.enter_new(root, at)
            where = deeper
        return where
