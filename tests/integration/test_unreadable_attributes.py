"""A name whose attributes the work node cannot read is reported with its own code and path, and the rule continues."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from i2core.api import Code
from i2core.config.model import OrphanAction, Orphans
from i2core.rule.source import draft as drafting

from .pair import open_nodes


@pytest.mark.parametrize("action", [OrphanAction.KEEP, OrphanAction.DELETE])
async def test_a_name_whose_attributes_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: OrphanAction
) -> None:
    stat = os.lstat
    async with open_nodes(tmp_path) as nodes:
        for name in ("good/file", "bad/broken", "bad/beside", "bad/beneath/file"):
            (nodes.source / name).parent.mkdir(exist_ok=True)
            (nodes.source / name).write_text(name)

        def failing(path: Any, **options: Any) -> os.stat_result:
            if path == b"broken":
                raise OSError(errno.EIO, "Input/output error")
            return stat(path, **options)

        monkeypatch.setattr(os, "lstat", failing)
        status = await nodes.run(nodes.rule(orphans=Orphans(action=action)))
        monkeypatch.undo()
        for name in ("good/file", "bad/beside", "bad/beneath/file"):
            assert (nodes.target / name).read_text() == name
        assert [(s.path, s.code) for s in status.skipped] == [
            (str(nodes.source / "bad" / "broken"), Code.READ_ATTRIBUTES),
        ]
        assert Code.READ_ATTRIBUTES in nodes.codes()


async def test_more_attributes_than_a_message_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a directory that have them are reported; objects beside and beneath them are sent."""
    monkeypatch.setattr(drafting, "ATTRIBUTES_BYTES", 1000)
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "rich").mkdir()
        for name in ("much", "little", "rich/file"):
            (nodes.source / name).write_text(name)
        try:
            for name, size in (("much", 1000), ("rich", 1000), ("little", 900)):
                os.setxattr(nodes.source / name, "user.a", bytes(size))
        except OSError:
            pytest.skip("no extended attributes here")
        status = await nodes.run()
        assert {(skipped.path, skipped.code) for skipped in status.skipped} == {
            (str(nodes.source / name), Code.READ_ATTRIBUTES) for name in ("much", "rich")
        }
        assert (nodes.target / "little").read_text() == "little"
        assert os.getxattr(nodes.target / "little", "user.a") == bytes(900)
        assert not (nodes.target / "much").exists()
