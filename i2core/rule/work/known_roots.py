"""The identities of the mirrored directories: kept beside the catalog, and compared with the source's present ones.

The catalog identifies objects by device and inode, so it is not valid for a tree in another directory, or for the same
one under another device number. A directory other than the mirrored one may be an empty mount point whose disk is not
mounted: mirroring it would empty the replica. These identities survive the loss of the catalog.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from i2core.api import Code, StopRule
from i2core.config.words import Bilingual, bilingual
from i2core.posix.durable import sync_path
from i2core.posix.identity import Standing
from i2core.posix.tree import LocalTree
from i2core.rule.sealed_text import sealed, unsealed

_MOUNT = bilingual(
    "mount it, then start again; if this directory is the right one, start with --compare",
    "请挂载后重新启动；若确实要复制此目录，请加 --compare 启动",
)


class Root(NamedTuple):
    """One source root."""

    standing: Standing
    device: int


class Looked(NamedTuple):
    """What the kept identities say about the present trees."""

    same: bool
    """The catalog is valid for these trees: they are the mirrored directories, with the same device numbers."""
    others: Sequence[LocalTree] = ()
    """Those that are not the mirrored directories."""
    known: bool = True
    """False: no identities could be read."""
    damage: str = ""
    """Why the file of the identities cannot be used; empty: it is not damaged."""


class KnownRoots:
    """The roots of one rule, kept in the file `path`; with None, nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def look(self, trees: Sequence[LocalTree], *, accept: bool) -> Looked:
        """Compares these trees with the mirrored directories. `accept`: a person has confirmed that the rule is to
        replicate these.

        Raises:
            StopRule: one is not the mirrored directory, perhaps because its disk is not mounted (3607).
        """
        try:
            known = self._load(len(trees))
        except ValueError as error:
            return Looked(same=False, known=False, damage=str(error))
        if known is None:
            return Looked(same=False, known=False)
        others = []
        for before, tree in zip(known, trees, strict=True):
            now = tree.standing
            if before.standing.here.is_same(now.here):
                continue
            if not accept and not now.may_follow(before.standing):
                raise _stop(
                    tree,
                    bilingual(
                        "this is not the directory that was mirrored: its disk may not be mounted",
                        "该目录不是原来镜像的目录：其磁盘可能未挂载",
                    ),
                )
            others.append(tree)
        same_devices = all(before.device == tree.device for before, tree in zip(known, trees, strict=True))
        return Looked(same=not others and same_devices, others=others)

    def keep(self, trees: Sequence[LocalTree]) -> None:
        """Notes that these are the mirrored directories from now on.

        Raises:
            OSError: it cannot be written.
        """
        if self._path is None:
            return
        content = sealed(json.dumps([(tree.standing.encode(), tree.device) for tree in trees]).encode())
        if _read(self._path) == content:
            return
        fresh = self._path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600, exist_ok=False)
        fresh.write_bytes(content)
        sync_path(fresh)
        fresh.replace(self._path)
        sync_path(self._path.parent)

    def _load(self, count: int) -> list[Root] | None:
        """The kept roots, as many as `count`; None: nothing is kept.

        Raises:
            ValueError: the file is damaged.
        """
        content = None if self._path is None else _read(self._path)
        if content is None:
            return None
        try:
            known = [Root(Standing.decode(text), int(device)) for text, device in json.loads(unsealed(content))]
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError("its content is not what was written") from error
        if len(known) != count:
            raise ValueError("it is of another number of directories")
        return known


def refuse_unknown(trees: Sequence[LocalTree]) -> None:
    """For a rule that has been mirrored, when it is not known any more from where.

    Raises:
        StopRule: always. An empty mount point would pass for the source, and empty the replica (3607).
    """
    raise _stop(
        trees[0],
        bilingual(
            "whether this is the directory that was mirrored is not known any more: the file about it is damaged or "
            "missing",
            "已无法确认该目录是否为原来镜像的目录：记录它的文件已损坏或缺失",
        ),
        bilingual(
            "check that its disk is mounted and that this is the right directory, then start with --compare",
            "请确认其磁盘已挂载、且目录无误，然后加 --compare 启动",
        ),
    )


def _stop(tree: LocalTree, cause: Bilingual, next_step: Bilingual = _MOUNT) -> StopRule:
    return StopRule(cause, code=Code.SOURCE_GONE, obj=os.fsdecode(tree.path), next_step=next_step)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
