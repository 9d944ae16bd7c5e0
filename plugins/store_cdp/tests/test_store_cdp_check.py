"""The driver is held to the contract of all journals."""

from __future__ import annotations

from pathlib import Path

from i2_store_cdp.plugin import i2_journals

from i2core.testing.journal import check_journal


async def test_files_keep_the_contract(tmp_path: Path) -> None:
    (spec,) = i2_journals()
    await check_journal(spec, workdir=tmp_path)
    assert not list(tmp_path.iterdir())
