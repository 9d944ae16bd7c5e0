"""Which watch stands for which directory. A watch follows its inode; the names above it change by renames alone.

Paths are not stored per directory but made from the names on the way up, and kept until the next rename: so the
rename of a directory costs the same whether one or a million directories lie beneath it.
"""

from __future__ import annotations

from collections.abc import Iterator


class Directory:
    """A watched directory: its name in its parent, and what is known beneath it."""

    __slots__ = ("children", "name", "parent", "prefix", "root", "stamp", "wd")

    def __init__(self, wd: int, name: bytes, parent: Directory | None, root: int) -> None:
        self.wd = wd
        self.name = name
        self.parent = parent
        """None for a root, and for the top of a tree that has no place any more."""
        self.root = root
        """Index of the root, valid with `prefix`."""
        self.children: dict[bytes, Directory] | None = None
        self.prefix: bytes | None = None
        """What stands before a name in it: its path and a slash; None when it has no place. Valid with `stamp`."""
        self.stamp = -1


class WatchTable:
    """All watched directories, by watch descriptor and by name."""

    def __init__(self, roots: int) -> None:
        self.by_wd: dict[int, Directory] = {}
        self.roots: list[Directory | None] = [None] * roots
        self.stamp = 0
        """Grows when paths change; a `Directory.prefix` of an older stamp is made anew."""
        self.displaced: dict[int, Directory] = {}
        """Tops of trees without a place, by wd: an event that is still to come may give them one, else they go."""

        self.missed: set[Directory] = set()
        """Directories in which others came while their own path was not known: to be listed once it is."""

    def prefix(self, directory: Directory) -> bytes | None:
        """What stands before a name in `directory`; None when it has no place. Sets `directory.root` too."""
        stamp = self.stamp
        if directory.stamp == stamp:
            return directory.prefix
        above = [directory]
        while (parent := above[-1].parent) is not None and parent.stamp != stamp:
            above.append(parent)
        for node in reversed(above):
            parent = node.parent
            if parent is None:
                node.prefix = b"" if self.roots[node.root] is node else None
            elif parent.prefix is None:
                node.prefix = None
            else:
                node.prefix, node.root = parent.prefix + node.name + b"/", parent.root
            node.stamp = stamp
        return directory.prefix

    def child(self, directory: Directory, name: bytes) -> Directory | None:
        """The watched directory of that name in `directory`."""
        return directory.children.get(name) if directory.children else None

    def at(self, root: int, path: bytes) -> Directory | None:
        """The watched directory at a path beneath a root."""
        node = self.roots[root]
        for name in path.split(b"/") if path else ():
            node = None if node is None else self.child(node, name)
        return node

    def add_root(self, root: int, wd: int) -> Directory:
        """The root's own directory; in the place of an older one."""
        old = self.roots[root]
        if old is not None:
            self.displace(old)
        node = self.by_wd.setdefault(wd, Directory(wd, b"", None, root))
        self.displaced.pop(wd, None)
        node.name, node.root = b"", root
        self.roots[root] = node
        self.stamp += 1
        return node

    def add(self, parent: Directory, name: bytes, wd: int) -> Directory:
        """A directory that was not known before, in the place of what had its name."""
        node = Directory(wd, name, None, parent.root)
        self.by_wd[wd] = node
        self._put(node, parent, name)
        return node

    def move(self, node: Directory, parent: Directory, name: bytes) -> None:
        """Gives a known directory, and all beneath it, another place; what had that name loses its own.

        A directory cannot move beneath itself. When it seems so, the place of another one is out of date and waits for
        its own event: then nothing is moved, and `parent` is listed once that is settled.
        """
        above: Directory | None = parent
        while above is not None:
            if above is node:
                self.missed.add(parent)
                return
            above = above.parent
        self.displace(node)
        self._put(node, parent, name)

    def displace(self, node: Directory) -> None:
        """Takes a directory out of its place; it stays known until `forget`, or until it gets another place."""
        parent = node.parent
        if parent is not None and parent.children is not None:
            parent.children.pop(node.name, None)
        elif self.roots[node.root] is node:
            self.roots[node.root] = None
        node.parent = None
        self.displaced[node.wd] = node
        self._renamed(node)

    def forget(self, wd: int) -> Directory | None:
        """The kernel ended this watch: the directory that it stood for is known no more."""
        node = self.by_wd.pop(wd, None)
        if node is not None:
            self.displace(node)
            del self.displaced[wd]
            self.missed.discard(node)
            for child in list((node.children or {}).values()):
                self.displace(child)
        return node

    def beneath(self, node: Directory) -> Iterator[Directory]:
        """The directory and all that is known beneath it."""
        todo = [node]
        while todo:
            node = todo.pop()
            yield node
            if node.children:
                todo += node.children.values()

    def _put(self, node: Directory, parent: Directory, name: bytes) -> None:
        if parent.children is None:
            parent.children = {}
        old = parent.children.get(name)
        if old is not None:
            self.displace(old)
        self.displaced.pop(node.wd, None)
        node.parent, node.name = parent, name
        parent.children[name] = node
        self._renamed(node)

    def _renamed(self, node: Directory) -> None:
        if node.children:
            self.stamp += 1
        else:
            node.stamp = -1
