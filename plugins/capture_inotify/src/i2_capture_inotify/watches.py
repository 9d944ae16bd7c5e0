"""Maps watches to directories. A watch follows its inode; its path changes only by renames.

Paths are not stored for each directory, but built from the names of its parents and cached until the next rename. So
the rename of a directory costs the same whether one or a million directories are beneath it."""

from __future__ import annotations

from collections.abc import Iterator


class Directory:
    """A watched directory: its name in its parent, and its known children."""

    __slots__ = ("children", "name", "parent", "prefix", "root", "stamp", "wd")

    def __init__(self, wd: int, name: bytes, parent: Directory | None, root: int) -> None:
        self.wd = wd
        self.name = name
        self.parent = parent
        """None for a root, and for the top of a tree whose place is not known any more."""
        self.root = root
        """Index of the root, valid with `prefix`."""
        self.children: dict[bytes, Directory] | None = None
        self.prefix: bytes | None = None
        """The prefix of a name in it: its path and a slash; None if it has no place. Valid with `stamp`."""
        self.stamp = -1


class WatchTable:
    """All watched directories, by watch descriptor and by name."""

    def __init__(self, roots: int) -> None:
        self.by_wd: dict[int, Directory] = {}
        self.roots: list[Directory | None] = [None] * roots
        self.stamp = 0
        """Grows when paths change; a `Directory.prefix` with an older stamp is built again."""
        self.displaced: dict[int, Directory] = {}
        """Tops of trees without a place, by wd. A later event may give them a new place, else they are dropped."""

        self.missed: set[Directory] = set()
        """Directories in which others appeared while their own path was not known: they are listed once it is."""

    def prefix(self, directory: Directory) -> bytes | None:
        """The prefix of a name in `directory`; None if it has no place. Sets `directory.root` too."""
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
        """Adds the root's own directory; replaces an older one."""
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
        """Adds a new directory; it displaces the one that had its name."""
        node = Directory(wd, name, None, parent.root)
        self.by_wd[wd] = node
        self._put(node, parent, name)
        return node

    def move(self, node: Directory, parent: Directory, name: bytes) -> None:
        """Gives a known directory, and all beneath it, another place; the directory that had the new name loses its
        place.

        A directory cannot move beneath itself. If it seems to, the recorded place of `parent` is out of date, and a
        later event will correct it. Then nothing is moved, and `parent` is listed once its path is known.
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
        """Removes a directory from its place; it stays known until `forget`, or until it gets another place."""
        parent = node.parent
        if parent is not None and parent.children is not None:
            parent.children.pop(node.name, None)
        elif self.roots[node.root] is node:
            self.roots[node.root] = None
        node.parent = None
        self.displaced[node.wd] = node
        self._renamed(node)

    def forget(self, wd: int) -> Directory | None:
        """Drops the directory of a watch that the kernel has ended."""
        node = self.by_wd.pop(wd, None)
        if node is not None:
            self.displace(node)
            del self.displaced[wd]
            self.missed.discard(node)
            for child in list((node.children or {}).values()):
                self.displace(child)
        return node

    def beneath(self, node: Directory) -> Iterator[Directory]:
        """The directory and all known directories beneath it."""
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
