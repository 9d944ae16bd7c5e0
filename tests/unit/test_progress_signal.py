"""The progress that the backup node reports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trio.testing import MockClock

from i2core.rule.backup.session import progress_signal
from i2core.rule.backup.session.progress_signal import SLOW_S, ProgressSignal, disk_sectors


@pytest.fixture
def sectors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sectors that the disk has read and written."""
    moved = [0]
    monkeypatch.setattr(progress_signal, "waits_for_disk", lambda: True)
    monkeypatch.setattr(progress_signal, "disk_sectors", lambda device: moved[0])
    return moved


async def test_each_piece_of_work_that_is_done_is_progress(sectors: list[int]) -> None:
    told = ProgressSignal([b"/"])
    before = told.value()
    with told.at_work():
        assert told.value() == before
    assert told.value() != before


async def test_the_disk_counts_while_the_sink_is_at_work(sectors: list[int], autojump_clock: MockClock) -> None:
    told = ProgressSignal([b"/"])
    idle = told.value()
    sectors[0] += 8
    assert told.value() == idle
    with told.at_work():
        values = []
        for _ in range(3):
            sectors[0] += 8
            values.append(told.value())
        assert len({idle, *values}) == 4
        assert told.value() == values[-1]
        autojump_clock.jump(SLOW_S + 1)
        sectors[0] += 8
        assert told.value() == values[-1], "a sink that does not end is stuck, whatever its disk does"


async def test_a_disk_that_is_busy_for_others_is_not_progress(
    sectors: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_signal, "waits_for_disk", lambda: False)
    told = ProgressSignal([b"/"])
    with told.at_work():
        before = told.value()
        sectors[0] += 8
        assert told.value() == before


async def test_a_value_fits_its_field(sectors: list[int]) -> None:
    told = ProgressSignal([b"/nowhere", b"/"])
    sectors[0] = 1 << 70
    with told.at_work():
        assert len(told.value()) == 8


def test_a_real_disk_shows_progress_when_it_is_written(tmp_path: Path) -> None:
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
