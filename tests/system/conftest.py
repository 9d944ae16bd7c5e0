"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .commands import Commands, plant


@pytest.fixture
def i2(tmp_path: Path) -> Iterator[Commands]:
    home = tmp_path / "home"
    home.mkdir()
    commands = Commands(home)
    try:
        yield commands
    finally:
        commands.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A planted tree."""
    plant(tmp_path / "src")
    return tmp_path / "src"
