"""A name whose attributes the work node cannot read: told with its own code and path, and the rule goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from i2core.api import Code
from i2core.config.model import OrphanAction, Orphans

from .pair import open_nodes


@pytest.mark.parametrize("action", [OrphanAction.KEEP, OrphanAction.DELETE])
async def test_a_name_whose_attributes_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: OrphanAction
) -> None:
    stat = os.stat
    async with open_nodes(tmp_path) as nodes:
        for name in ("good/file", "bad/broken"):
            (nodes.source / name).parent.mkdir()
            (nodes.source / name).write_text(name)

        def failing(path: Any, **options: Any) -> os.stat_result:
            if path == b"broken":
                raise OSError(errno.EIO, "Input/output error")
            return stat(path, **options)

        monkeypatch.setattr(os, "stat", failing)
        status = await nodes.run(nodes.rule(orphans=Orphans(action=action)))
        monkeypatch.undo()
        assert (nodes.target / "good/file").read_text() == "good/file"
        assert [(s.path, s.code) for s in status.skipped] == [
            (str(nodes.source / "bad" / "broken"), Code.READ_ATTRIBUTES),
        ]
        assert Code.READ_ATTRIBUTES in nodes.codes()
