"""Full copies of trees: what is right."""

from __future__ import annotations

from typing import Any, NamedTuple

from i2core.testing.memory_replica import Inode


class Copy(NamedTuple):
    """One object of a full copy."""

    mode: int
    group: tuple[bytes, ...]
    """The first path of the object: equal for its hard links."""
    meta: tuple[Any, ...]
    data: bytes
    holes: bytes
    target: bytes
    device: int
    accidental: bool
    """Its time is an accident of this node, and not promised."""
    node: Inode


Tree = dict[tuple[bytes, ...], Copy]


def full_copy(root: Inode) -> Tree:
    tree: Tree = {}
    groups: dict[Inode, tuple[bytes, ...]] = {}

    def go(node: Inode, path: tuple[bytes, ...]) -> None:
        group = groups.setdefault(node, path)
        content = bytes(node.data), node.holes(), node.target, node.device
        tree[path] = Copy(node.meta.mode, group, tuple(node.meta), *content, node.accidental, node)
        for name in sorted(node.entries):
            go(node.entries[name], (*path, name))

    go(root, ())
    return tree


def compare(found: Tree, right: Tree, where: object) -> None:
    assert found.keys() == right.keys(), (where, sorted(found.keys() ^ right.keys()))
    for path, copy in right.items():
        seen = found[path]
        if copy.accidental:
            seen = seen._replace(meta=(*seen.meta[:3], copy.meta[3], *seen.meta[4:]))
        assert seen[:7] == copy[:7], (where, path, seen, copy)
