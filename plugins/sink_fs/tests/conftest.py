"""A replica on disk beside a directory that nothing may reach."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import attrs
import pytest
from i2_sink_fs.plugin import open_fs

from i2core.api import Batch, Failure, NoConfig, Record, Sink, SinkContext


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


class OpenAt(Protocol):
    """Opens a sink on these roots beneath the allowed directory."""

    def __call__(self, allowed: Path, *roots: Path, said: list[str]) -> AbstractAsyncContextManager[Sink]: ...


@pytest.fixture
def open_at() -> OpenAt:
    def opened(allowed: Path, *roots: Path, said: list[str]) -> AbstractAsyncContextManager[Sink]:
        names = tuple(map(os.fsencode, roots))
        return open_fs(NoConfig(), SinkContext(roots=names, allowed=(os.fsencode(allowed),), say=said.append))

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


@pytest.fixture(autouse=True)
def allowed(tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
