"""Which parts of which trees are recovered, and to where beneath the destination."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence

import attrs

from i2core.api import Code, UsageError
from i2core.api.changes import join
from i2core.api.records import safe_path
from i2core.api.tree import Tree
from i2core.config.places import beneath
from i2core.config.words import Bilingual, bilingual
from i2core.posix.path_text import shown

Wants = Callable[[bytes, bool], bool]
"""Whether a rule protects what has this path beneath the root (True: as a directory)."""


def wants_all(_path: bytes, _is_dir: bool) -> bool:
    """Of a rule without filters."""
    return True


@attrs.frozen(kw_only=True)
class Root:
    """One root of a rule, at the moment that is recovered."""

    tree: Tree
    path: bytes
    """The absolute path that people know it by: where it is on the work node."""
    wants: Wants = wants_all
    """What the rule excludes is neither recovered nor counted as extra."""


@attrs.frozen(kw_only=True)
class Part:
    """What is at `path` of a root, and all beneath it, comes to `at` of the destination. Both are paths beneath those
    two; empty: the whole."""

    root: Root
    path: bytes = b""
    at: bytes = b""


def parts_of(
    roots: Sequence[Root], chosen: Sequence[bytes] = (), moved: Mapping[bytes, bytes] | None = None
) -> list[Part]:
    """The parts of a recovery. A single root comes to the destination itself, each of several to its own path beneath
    it: ``/home/data1`` to ``DIR/home/data1``.

    `chosen`: only these; empty: everything. Each is an absolute path, as on the work node, or one beneath the only
    root. `moved` says of a chosen path to which place beneath the destination it comes, instead of its own; of the path
    of a root it says the same for all that is in it.

    Raises:
        UsageError: a path is not beneath a root, is not there at that moment, or two parts would come to one place.
    """
    places = {_normal(path): _place(at) for path, at in (moved or {}).items()}
    found = []
    for root in roots:
        at = places.pop(root.path, b"" if len(roots) == 1 else root.path.strip(b"/"))
        only = root.tree.only
        found.append(Part(root=root, at=at) if only is None else Part(root=root, path=only, at=join(at, only)))
    if chosen:
        found = [_chosen(_normal(path), found, places) for path in dict.fromkeys(chosen)]
    if places:
        raise _wrong(
            next(iter(places)), bilingual("is moved, and is not among the chosen paths", "要改放他处，但未被选中")
        )
    return _apart(found)


def _chosen(path: bytes, whole: Sequence[Part], places: dict[bytes, bytes]) -> Part:
    """The part of one chosen path; its place is removed from `places`."""
    is_absolute = path.startswith(b"/")
    if not is_absolute and len(whole) > 1:
        step = bilingual("name an absolute path as on the work node", "请使用工作机上的绝对路径")
        raise _wrong(path, bilingual("the rule has several directories", "该规则有多个目录"), step)
    for part in whole:
        root = part.root
        if is_absolute and not beneath(path, root.path):
            continue
        within = path[len(root.path) :].lstrip(b"/") if is_absolute else path
        entry = root.tree.lookup(within)
        if entry is None or root.tree.only not in (None, within):
            raise _wrong(path, bilingual("is not there at that moment", "在该时刻不存在"))
        top = part.at if root.tree.only is None else part.at[: -len(root.tree.only) - 1]
        at = places.pop(path, join(top, within) if within else top)
        if not at and not stat.S_ISDIR(entry.mode):
            raise _wrong(path, bilingual("is no directory, so it needs a name", "不是目录，因此需要名称"))
        return Part(root=root, path=within, at=at)
    raise _wrong(path, bilingual("is not in a directory of the rule", "不在该规则的目录之内"))


def _apart(parts: Sequence[Part]) -> list[Part]:
    """The parts without those that another one contains anyway.

    Raises:
        UsageError: something else would come to the place of one, or into it.
    """
    kept: list[Part] = []
    for part in sorted(parts, key=lambda part: part.at.split(b"/") if part.at else []):
        above = next((one for one in kept if not one.at or beneath(part.at, one.at)), None)
        if above is None:
            kept.append(part)
        elif part.root is not above.root or part.path != _inside(above, part.at):
            cause = bilingual("two parts would come to one place", "两部分会放到同一位置")
            raise _wrong(part.at, cause, bilingual("recover them one after the other", "请分次恢复"))
    return kept


def _inside(above: Part, at: bytes) -> bytes:
    """The path in the root of what `above` brings to `at`."""
    rest = at[len(above.at) :].lstrip(b"/")
    return join(above.path, rest) if rest else above.path


def _normal(path: bytes) -> bytes:
    """The path without a slash at its end; empty for the only root itself."""
    if b".." in path.split(b"/") or b"\0" in path or not path:
        raise _wrong(path, bilingual("is not a path without .. in it", "不是不含 .. 的路径"))
    normal = os.path.normpath(path)
    return b"" if normal == b"." else normal


def _place(at: bytes) -> bytes:
    at = at.strip(b"/")
    if not safe_path(at):
        raise _wrong(at, bilingual("is not a place beneath the destination", "不是目标目录之内的位置"))
    return at


def _wrong(path: bytes, cause: Bilingual, next_step: str = "") -> UsageError:
    return UsageError(cause, code=Code.ILLEGAL_PATH, obj=shown(path), next_step=next_step)
