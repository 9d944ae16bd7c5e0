"""What became of each object, by full copies: the oracle for histories of objects and for differences."""

from __future__ import annotations

from typing import NamedTuple

from i2core.testing.memory_replica import Inode

from .copies import Copy, Tree


class State(NamedTuple):
    """An object in one tree."""

    names: frozenset[tuple[Inode, bytes]]
    copy: Copy


def objects(tree: Tree) -> dict[Inode, State]:
    """All objects of the tree, with all their names."""
    names: dict[Inode, set[tuple[Inode, bytes]]] = {}
    for path, copy in tree.items():
        found = names.setdefault(copy.node, set())
        if path:
            found.add((tree[path[:-1]].node, path[-1]))
    return {copy.node: State(frozenset(names[copy.node]), copy) for copy in tree.values()}


def visible_change(before: Tree, after: Tree) -> dict[Inode, bool]:
    """Objects that differ: True if that must be reported, False if it may be. A tree that came, went or moved is
    reported by its top; times that are accidents need not be."""
    old, new = objects(before), objects(after)
    return {node: sure for node in old.keys() | new.keys() if (sure := _differs(node, old, new)) is not None}


def _differs(node: Inode, old: dict[Inode, State], new: dict[Inode, State]) -> bool | None:
    was, now = old.get(node), new.get(node)
    if was is None or now is None:
        known, state = (new, was) if now is None else (old, now)
        assert state is not None
        return not state.names or any(parent in known for parent, _ in state.names)
    names = [{name for name in state.names if name[0] in old and name[0] in new} for state in (was, now)]
    if names[0] != names[1] or was.copy.data != now.copy.data or was.copy.holes != now.copy.holes:
        return True
    accidental = was.copy.accidental or now.copy.accidental
    metas = [(*state.copy.meta[:3], *state.copy.meta[4:]) if accidental else state.copy.meta for state in (was, now)]
    if metas[0] != metas[1]:
        return True
    return False if accidental or was.names != now.names else None
