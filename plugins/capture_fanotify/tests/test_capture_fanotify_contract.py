"""The driver keeps the contract of captures, on each file system that matters."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from i2_capture_fanotify.plugin import i2_captures

from i2core.testing.capture import check_capture

pytestmark = pytest.mark.root
(SPEC,) = i2_captures()


async def test_contract_on_the_file_system_of_tmp() -> None:
    await check_capture(SPEC)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
async def test_contract(kind: str, mount_image: Callable[[str, Path], Path], tmp_path: Path) -> None:
    await check_capture(SPEC, workdir=mount_image(kind, tmp_path / "point"))


async def test_contract_with_a_cache_that_is_far_too_small() -> None:
    await check_capture(SPEC, {"cached_directories": 16})


def test_the_plugin_imports_light() -> None:
    """Discovery loads every plugin: what needs the kernel waits until the driver is opened."""
    code = "import sys, i2_capture_fanotify.plugin; sys.exit('i2_capture_fanotify.fanotify' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
