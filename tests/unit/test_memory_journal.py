"""The journal in memory keeps the contract of all journals."""

from __future__ import annotations

from pathlib import Path

from i2core.testing.journal import check_journal, memory_journal


async def test_memory_keeps_the_contract(tmp_path: Path) -> None:
    await check_journal(memory_journal(), workdir=tmp_path)
    assert not list(tmp_path.iterdir())
