"""Power cuts at one place, many times: each leaves another disk."""

from __future__ import annotations

import random
from pathlib import Path

from i2core.api.records import Kind, Record
from i2core.history.retention.kept import Kept
from i2core.history.retention.sweep import Sweep
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE

from .copies import compare, full_copy
from .merging import merge
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


def test_what_a_sweep_moves_out_of_an_object_is_not_lost(tmp_path: Path) -> None:
    """`a` was moved into `d`, which was removed: at the mark `a` has its first name, and `d` is nowhere. Index files
    may have all that was written, and the replica nothing that was not flushed."""
    for stop in range(12):
        for seed in range(4):
            directory = tmp_path / f"{stop}-{seed}"
            directory.mkdir()
            world = World(random.Random(seed), str(directory))  # noqa: S311 (a seed, not a secret)
            world.begin()
            world.apply([Record(Kind.CREATE, 0, b"a", meta=EMPTY_FILE), Record(Kind.WRITE, 0, b"a", data=b"content")])
            mark = world.seq
            world.apply([Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY), Record(Kind.RENAME, 0, b"a", other=b"d/a")])
            world.apply([Record(Kind.REMOVE, 0, b"d")])
            world.flush()
            kept = Kept(world.seq, [mark])
            for _ in merge(world.index, world.index.close_growing(), kept):
                pass
            for _ in zip(Sweep(world.index, world.disk, kept).run(), range(stop), strict=False):
                pass
            world.index.sync()
            world.crash()
            world.check(mark, (stop, seed))
            for _ in Sweep(world.index, world.disk, kept).run():
                pass
            world.check(mark, (stop, seed, "swept"))
            world.index.close()
