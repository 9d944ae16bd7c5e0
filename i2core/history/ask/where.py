"""Which place of a replica a path means that a person has written."""

from __future__ import annotations

import os
from collections.abc import Sequence

from i2core.api import Place, UsageError
from i2core.api.records import safe_path
from i2core.config.words import bilingual


def place_of(path: bytes, targets: Sequence[bytes], sources: Sequence[bytes] = ()) -> Place:
    """The place. `targets`: the directories of the replica, absolute, by root. `sources`: those on the work node, if
    they are known. A path is absolute, beneath one of them; or relative to the only one.

    Raises:
        UsageError: it lies in none of them, or in one of several.
    """
    if not os.path.isabs(path):
        if len(targets) > 1:
            raise _unclear(path, targets)
        return _checked(Place(0, _plain(path)), path)
    normal = os.path.normpath(path)
    for tops in (targets, sources):
        inside = [root for root, top in enumerate(tops) if (normal + b"/").startswith(top.rstrip(b"/") + b"/")]
        if inside:
            root = max(inside, key=lambda number: len(tops[number]))
            return _checked(Place(root, _plain(normal[len(tops[root]) :])), path)
    raise _unclear(path, targets)


def is_in(place: Place, top: Place) -> bool:
    """True for `top` itself, and for everything beneath it."""
    return place == top or (place.root == top.root and place.path.startswith(top.path + b"/" if top.path else b""))


def shown(place: Place, targets: Sequence[bytes]) -> str:
    """The path on this node."""
    target = targets[place.root] if place.root < len(targets) else b"?"
    return os.fsdecode(os.path.join(target, place.path) if place.path else target)


def _plain(path: bytes) -> bytes:
    normal = os.path.normpath(path.strip(b"/")) if path.strip(b"/") else b""
    return b"" if normal == b"." else normal


def _checked(place: Place, path: bytes) -> Place:
    if not safe_path(place.path):
        raise UsageError(bilingual("this path leaves the replica", "该路径超出了副本"), obj=os.fsdecode(path))
    return place


def _unclear(path: bytes, targets: Sequence[bytes]) -> UsageError:
    names = ", ".join(map(os.fsdecode, targets))
    return UsageError(
        bilingual("this path is in no directory of the rule here", "该路径不在此规则的任何目录中"),
        obj=os.fsdecode(path),
        next_step=bilingual(f"name one beneath {names}", f"请给出位于 {names} 之下的路径"),
    )
