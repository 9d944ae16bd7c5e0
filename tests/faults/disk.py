"""A small disk: a loop-mounted file system that a test fills, and frees again."""

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
    """A file system mounted at `place`. It is filled by a file that does not belong to the nodes."""

    place: Path

    @property
    def filling(self) -> Path:
        """The file that takes the space."""
        return self.place / "filling"

    def fill(self) -> None:
        """Takes all free space, including space that became free since the last call."""
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
        """Frees the space again."""
        self.filling.unlink()


@contextmanager
def small_disk(place: Path, mebibytes: int) -> Iterator[Disk]:
    """A new disk at the directory `place`, unmounted at the end of the body."""
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
