"""What the tests of mounts share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api.line import Line


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests that mount where the kernel has no FUSE, and says so."""
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        return
    for item in items:
        if item.get_closest_marker("root") and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="/dev/fuse is missing, or not ours to open"))


@pytest.fixture
def point(tmp_path: Path) -> bytes:
    """An empty directory to mount on."""
    made = tmp_path / "point"
    made.mkdir()
    return bytes(made)


@pytest.fixture
def lines() -> list[Line]:
    """What a mount has said."""
    return []
