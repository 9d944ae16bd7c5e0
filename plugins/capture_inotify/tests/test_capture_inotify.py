"""The inotify capture against the contract."""

from pathlib import Path

from i2_capture_inotify import plugin
from i2core.testing.capture import check_capture

(SPEC,) = plugin.i2_captures()


async def test_it_keeps_the_contract(tmp_path: Path) -> None:
    await check_capture(SPEC, workdir=tmp_path)
