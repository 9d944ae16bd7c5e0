"""A replica on disk beside a directory that nothing may reach."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
import pytest
from i2_sink_fs.plugin import open_fs

from i2core.api import Batch, Failure, NoConfig, Record, Sink, SinkContext

SECRET = bytes(32)


@attrs.define
class Replica:
    """A sink, its root directory, and what it said."""

    sink: Sink
    root: Path
    outside: Path
    said: list[str]
    seq: int = 1

    async def apply(self, *records: Record) -> tuple[Failure, ...]:
        """The failures of one batch."""
        applied = await self.sink.apply(Batch(self.seq, records))
        self.seq += len(records)
        return applied.failures

    async def at_rest(self) -> list[str]:
        """What lies in the root when nothing is to be done any more, in order."""
        await self.sink.flush()
        return sorted(os.listdir(self.root))


class OpenAt(Protocol):
    """Opens a sink on these roots beneath the allowed directory."""

    def __call__(
        self, allowed: Path, *roots: Path, said: list[str], flags: bool = False
    ) -> AbstractAsyncContextManager[Sink]: ...


@pytest.fixture
def open_at() -> OpenAt:
    def opened(allowed: Path, *roots: Path, said: list[str], flags: bool = False) -> AbstractAsyncContextManager[Sink]:
        names = tuple(map(os.fsencode, roots))
        where = (os.fsencode(allowed),)
        return open_fs(NoConfig(), SinkContext(roots=names, allowed=where, say=said.append, secret=SECRET, flags=flags))

    return opened


@pytest.fixture
async def replica(tmp_path: Path, open_at: OpenAt) -> AsyncIterator[Replica]:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("kept")
    said: list[str] = []
    async with open_at(tmp_path / "backup", tmp_path / "backup" / "data", said=said) as sink:
        yield Replica(sink, tmp_path / "backup" / "data", tmp_path / "outside", said)
    assert os.listdir(tmp_path / "outside") == ["kept"]
    assert (tmp_path / "outside" / "kept").read_text() == "kept"


class OpenReplica(Protocol):
    """Opens a replica beneath a directory; one of the test's own when none is given."""

    def __call__(self, allowed: Path | None = None, *, flags: bool = False) -> AbstractAsyncContextManager[Replica]: ...


@pytest.fixture
def open_replica(tmp_path: Path, open_at: OpenAt) -> OpenReplica:
    @asynccontextmanager
    async def opened(allowed: Path | None = None, *, flags: bool = False) -> AsyncIterator[Replica]:
        where, said = allowed or tmp_path / "backup", list[str]()
        async with open_at(where, where / "data", said=said, flags=flags) as sink:
            yield Replica(sink, where / "data", tmp_path, said)
            await sink.flush()
        assert not list((where / "data").rglob(".i2-staging-*"))

    return opened


@pytest.fixture(autouse=True)
def allowed(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts a new file system of 8 MB (xfs and btrfs want more): its type, and options of mkfs."""
    if os.geteuid() != 0:
        pytest.skip("needs root: mounts a small disk")
    with ExitStack() as mounts:

        def mounted(kind: str, *options: str) -> Path:
            image, mount = tmp_path / "image", tmp_path / "mount"
            mount.mkdir()
            with image.open("wb") as file:
                file.truncate({"xfs": 400, "btrfs": 128}.get(kind, 8) << 20)
            try:
                subprocess.run([f"mkfs.{kind}", *options, image], check=True, capture_output=True)  # noqa: S603
                subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True)  # noqa: S603, S607
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"this host cannot make and mount {kind}: {error}")
            mounts.callback(partial(subprocess.run, ["umount", str(mount)], check=True))
            return mount

        yield mounted


@pytest.fixture
def small_disk(mounted: Callable[..., Path]) -> Path:
    """An ext4 of 8 MB."""
    return mounted("ext4", "-q", "-m", "0")
