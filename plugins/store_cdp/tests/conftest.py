"""A journal in a directory of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from i2_store_cdp.plugin import i2_journals

from i2core.api import NoConfig
from i2core.api.journal import JournalContext
from i2core.testing.journal.trial import Trial


@pytest.fixture
def said() -> list[str]:
    """What the journal said for the logbook."""
    return []


@pytest.fixture
def trial(tmp_path: Path, said: list[str]) -> Trial:
    """Without a reserve: it is of no use in these tests."""
    (spec,) = i2_journals()
    context = JournalContext(directory=bytes(tmp_path / "cdp"), reserve_bytes=0, say=said.append)
    return Trial(spec, NoConfig(), context)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of 8 MB."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small disk")
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True, capture_output=True)  # noqa: S603, S607
        subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this host cannot make and mount ext4: {error}")
    yield mount
    subprocess.run(["umount", mount], check=True)  # noqa: S603, S607
