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
from i2core.config.words import bilingual
from i2core.posix.durable import sync_path
from i2core.posix.identity import Standing
from i2core.posix.tree import LocalTree
from i2core.rule.sealed_text import sealed, unsealed


class Root(NamedTuple):
    """One source root."""

    standing: Standing
    device: int


class KnownRoots:
    """The roots of one rule, kept in the file `path`; with None, nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def look(self, trees: Sequence[LocalTree], *, accept: bool) -> tuple[bool, list[LocalTree]]:
        """Returns whether the catalog is valid for these trees, and those of them that are not the mirrored
        directories. `accept`: a person has confirmed that the rule is to replicate these.

        Raises:
            StopRule: one is not the mirrored directory, perhaps because its disk is not mounted (3607).
        """
        known = self._load()
        if known is None or len(known) != len(trees):
            return False, []
        others = []
        for before, tree in zip(known, trees, strict=True):
            now = tree.standing
            if before.standing.here.is_same(now.here):
                continue
            if not accept and not now.may_follow(before.standing):
                raise StopRule(
                    bilingual(
                        "this is not the directory that was mirrored: its disk may not be mounted",
                        "该目录不是原来镜像的目录：其磁盘可能未挂载",
                    ),
                    code=Code.SOURCE_GONE,
                    obj=os.fsdecode(tree.path),
                    next_step=bilingual(
                        "mount it, then start again; if this directory is the right one, start with --compare",
                        "请挂载后重新启动；若确实要复制此目录，请加 --compare 启动",
                    ),
                )
            others.append(tree)
        same_devices = all(before.device == tree.device for before, tree in zip(known, trees, strict=True))
        return not others and same_devices, others

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

    def _load(self) -> list[Root] | None:
        """The kept roots. None: nothing is kept, or the file is damaged; then everything is compared."""
        content = None if self._path is None else _read(self._path)
        if content is None:
            return None
        try:
            return [Root(Standing.decode(text), int(device)) for text, device in json.loads(unsealed(content))]
        except (ValueError, TypeError, AttributeError):
            return None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
