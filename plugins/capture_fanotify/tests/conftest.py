"""What the tests of this plugin share: file systems to mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def _command(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, f"{words}: {done.stderr}"


@pytest.fixture
def mount() -> Iterator[Callable[..., None]]:
    """``mount(ARGUMENT, …)`` as the command, the mount point last; unmounts in the end what still is mounted."""
    points: list[str] = []

    def run(*arguments: str | Path) -> None:
        _command("mount", *arguments)
        points.append(os.path.realpath(arguments[-1]))

    try:
        yield run
    finally:
        for point in reversed(points):
            while os.path.ismount(point):
                _command("umount", point)


@pytest.fixture
def mount_image(tmp_path: Path, mount: Callable[..., None]) -> Callable[[str, Path], Path]:
    """``mount_image("xfs", directory)``: a fresh file system of that kind, in a sparse file, mounted there."""

    def run(kind: str, point: Path) -> Path:
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"mkfs.{kind} is not installed")
        image = tmp_path / f"{kind}-{point.name}.img"
        image.touch()
        os.truncate(image, 320 << 20)
        _command(f"mkfs.{kind}", "-q", image)
        point.mkdir(exist_ok=True)
        mount("-o", "loop", image, point)
        return point

    return run
