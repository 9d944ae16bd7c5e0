"""The backup node is killed again and again while it records the history of a replica: each earlier moment reads as the
replica was then."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from i2core.config.model import BackupRole
from i2core.history.record.durable import Durable
from i2core.registry import Registry
from i2core.rule.backup.replica.position import PositionFile
from i2core.rule.backup.service import BackupService
from tests.pictures import Picture, differing, past_picture, picture
from tests.work_on_files import Worker

from .test_system_daemon import Site

if TYPE_CHECKING:
    from .commands import Commands

RULE = 'cdp = {}\nbrake = { share = 1.0 }\norphans = { action = "delete" }'


def _seq(site: Site) -> int:
    """The durable moment, by the position file."""
    position = PositionFile(site.place / "backup.state" / "positions", "work", "data1").load()
    return Durable.decode(position.history).seq


def _at_rest(site: Site, i2: Commands, source: Path) -> tuple[int, Picture]:
    """The replica equals the source, and all of it is durable."""
    fence = source / "fence"
    fence.write_text(f"{time.monotonic()}")

    def settled() -> bool:
        try:
            if differing(picture(site.replica("data1")), picture(source)):
                return False
        except (FileNotFoundError, NotADirectoryError):  # it is being changed
            return False
        work = site.status("work", "data1")
        return bool(work["seq"] == work["durable_seq"])

    i2.eventually("the replica is equal", settled, 60)
    return _seq(site), picture(site.replica("data1"))


async def _check(site: Site, right: dict[int, Picture]) -> None:
    role = BackupRole(allow_roots=(bytes(site.place / "replicas"),), plaintext=True)
    lines: list[str] = []
    service = BackupService(
        role,
        registry=Registry.load(),
        state_dir=site.place / "backup.state",
        say=lambda rule, code, line: lines.append(line),
    )
    async with service.history("data1") as history:
        for seq, was in right.items():
            found = await trio.to_thread.run_sync(past_picture, history.tree(0, seq))
            wrong = differing(found, was)
            assert not wrong, f"moment {seq} of {history.seq}: " + "\n".join(wrong[:20])
    assert not lines


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_every_moment_survives_kills_of_the_backup_node(i2: Commands, tmp_path: Path, seed: int) -> None:
    site = Site(i2, tmp_path)
    rng = random.Random(seed)  # noqa: S311 (a seed, not a secret)
    source = tmp_path / "live"
    source.mkdir()
    worker = Worker(rng, source)
    worker.do(40)
    site.prepare(site.rule("data1", source, RULE))
    backup, work = site.start("backup"), site.start("work")
    site.replicating("data1")
    right = dict([_at_rest(site, i2, source)])
    for _ in range(4):
        for _ in range(rng.randrange(1, 12)):
            worker.do(rng.randrange(1, 12))
            time.sleep(rng.random() / 10)
        backup.kill()
        backup.wait()
        worker.do(5)
        backup = site.start("backup")
        seq, there = _at_rest(site, i2, source)
        right[seq] = there
    assert len(right) == 5
    assert [i2.finish(process, signal.SIGTERM)[0] for process in (work, backup)] == [0, 0]
    log = site.log("backup").read_text()
    assert "Traceback" not in log
    assert "3646" not in log, log
    trio.run(_check, site, right)
