"""Large files of live replication that take turns, when the session ends."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from unittest.mock import Mock

import pytest

from i2core.rule.live.large_files import LargeFileQueue
from i2core.rule.source.draft import Large
from i2core.rule.source.transfer import Transfer

from .reconciling import place, reconciling


async def test_all_files_are_closed_when_the_catalog_takes_no_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk of the state is full. The rule starts again every few seconds, and may leave no descriptors."""
    closed: list[Transfer] = []

    def close(transfer: Transfer) -> None:
        closed.append(transfer)
        raise sqlite3.OperationalError("database or disk is full")

    async with reconciling(tmp_path) as tree:
        queue = LargeFileQueue(tree.source, tree.dirty, tree.reconciler, keep=Mock(), over=Mock())
        for name in ("a", "b", "c"):
            (tree.top / name).write_text("content")
            entry = tree.source.trees[0].lookup(name.encode())
            assert entry is not None
            queue.add(Large(place(name), entry, whole=True), Mock(), tail=False)
        monkeypatch.setattr(Transfer, "close", close)
        with pytest.raises(sqlite3.OperationalError):
            queue.break_off()
        assert len(set(closed)) == 3
        assert queue.break_off() == []
