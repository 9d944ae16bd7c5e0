"""File systems on loop devices."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

Mount = Callable[..., Path]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a new file system of a type and size (MiB); skips where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a file system")
    with ExitStack() as mounts:

        def mounted(kind: str, size: int = 400) -> Path:
            image, point = tmp_path / f"{kind}.image", tmp_path / kind
            point.mkdir()
            with image.open("wb") as file:
                file.truncate(size << 20)
            try:
                for command in ([f"mkfs.{kind}", str(image)], ["mount", "-o", "loop", str(image), str(point)]):
                    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this host cannot make and mount {kind}: {error}")
            mounts.callback(subprocess.run, ["umount", str(point)], check=True)
            return point

        yield mounted
