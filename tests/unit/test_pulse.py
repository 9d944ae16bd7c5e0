"""What the backup node tells of its progress."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trio.testing import MockClock

from i2core.rule.backup import pulse
from i2core.rule.backup.pulse import SLOW_S, Pulse, disk_sectors


@pytest.fixture
def sectors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the disk has moved."""
    moved = [0]
    monkeypatch.setattr(pulse, "waits_for_disk", lambda: True)
    monkeypatch.setattr(pulse, "disk_sectors", lambda device: moved[0])
    return moved


async def test_each_piece_of_work_that_is_done_is_progress(sectors: list[int]) -> None:
    told = Pulse([b"/"])
    before = told.beat()
    with told.at_work():
        assert told.beat() == before
    assert told.beat() != before


async def test_the_disk_counts_while_the_sink_is_at_work(sectors: list[int], autojump_clock: MockClock) -> None:
    told = Pulse([b"/"])
    idle = told.beat()
    sectors[0] += 8
    assert told.beat() == idle
    with told.at_work():
        beats = []
        for _ in range(3):
            sectors[0] += 8
            beats.append(told.beat())
        assert len({idle, *beats}) == 4
        assert told.beat() == beats[-1]
        autojump_clock.jump(SLOW_S + 1)
        sectors[0] += 8
        assert told.beat() == beats[-1], "a sink that does not end is stuck, whatever its disk does"


async def test_a_disk_that_others_keep_busy_is_no_progress(sectors: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "waits_for_disk", lambda: False)
    told = Pulse([b"/"])
    with told.at_work():
        before = told.beat()
        sectors[0] += 8
        assert told.beat() == before


async def test_a_beat_fits_its_field(sectors: list[int]) -> None:
    told = Pulse([b"/nowhere", b"/"])
    sectors[0] = 1 << 70
    with told.at_work():
        assert len(told.beat()) == 8


def test_a_real_disk_moves_when_it_is_written_to(tmp_path: Path) -> None:
    device = os.stat(tmp_path).st_dev
    if not os.path.exists(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"):
        pytest.skip("no block device of its own beneath the temporary directory")
    before = disk_sectors(device)
    with open(tmp_path / "file", "wb") as file:
        file.write(os.urandom(1 << 20))
        file.flush()
        os.fsync(file.fileno())
    assert disk_sectors(device) >= before + 2048


def test_a_file_system_without_a_device_counts_all_disks() -> None:
    assert disk_sectors(os.stat("/proc").st_dev) >= 0
