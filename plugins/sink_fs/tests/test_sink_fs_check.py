"""The driver and its in-memory twin are held to the contract of all sinks."""

from __future__ import annotations

import os
from pathlib import Path

from i2_sink_fs.plugin import i2_sinks

from i2core.testing.sink import check_sink, memory_sink


async def test_files_keep_the_contract(tmp_path: Path) -> None:
    (spec,) = i2_sinks()
    await check_sink(spec, workdir=tmp_path)
    assert os.listdir(tmp_path) == ["backup"]


async def test_memory_keeps_the_contract(tmp_path: Path) -> None:
    await check_sink(memory_sink(), workdir=tmp_path)
