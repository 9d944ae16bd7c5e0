"""A small disk of its own: a loop-mounted file system that a test fills up, and gives room again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

_STEP = 64 * 1024


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603


@attrs.frozen
class Disk:
    """A file system mounted at `place`. Its filling lies on it as a file of somebody else's."""

    place: Path

    @property
    def filling(self) -> Path:
        """What takes the room away."""
        return self.place / "filling"

    def fill(self) -> None:
        """Takes all the room that there is, also what became free since the last time."""
        with open(self.filling, "ab", buffering=0) as file:
            for step in (_STEP, 512):
                try:
                    while True:
                        file.write(bytes(step))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            os.fsync(file.fileno())

    def make_room(self) -> None:
        """Gives it back."""
        self.filling.unlink()


@contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[Disk]:
    """A new disk at the directory `place`, gone on leaving."""
    image = place.with_name(place.name + ".image")
    image.touch()
    os.truncate(image, mebibytes << 20)
    _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    place.mkdir()
    _run("mount", "-o", "loop", image, place)
    try:
        (place / "lost+found").rmdir()
        yield Disk(place)
    finally:
        _run("umount", "-l", place)
        image.unlink()
