"""Power cuts at one place, many times: each leaves another disk."""

from __future__ import annotations

import random
from pathlib import Path

from i2core.api.records import Kind, Record
from i2core.testing.memory_replica import EMPTY_FILE

from .copies import compare, full_copy
from .world import World


def test_a_published_staging_file_goes_back_to_its_place(tmp_path: Path) -> None:
    """What was staged before the durable position is not sent again. `World.crash` looks for it, too."""
    for seed in range(12):
        directory = tmp_path / str(seed)
        directory.mkdir()
        world = World(random.Random(seed), str(directory))  # noqa: S311 (a seed, not a secret)
        world.begin()
        world.apply([Record(Kind.STAGE, 0, b"f")])
        world.flush()
        staged = Record(Kind.WRITE, 0, b"f", data=b"content", staged=True)
        world.apply([staged, Record(Kind.PUBLISH, 0, b"f", meta=EMPTY_FILE, size=7)])
        world.crash()
        assert list(world.disk.staging.entries) == [b"0/f"]
        compare(full_copy(world.disk.root), world.trees[world.seq], seed)
