"""What LVM reports is read; and real volumes, in a guest with the device mapper."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from i2_store_lvm.commands import Failed, run
from i2_store_lvm.config import LvmConfig
from i2_store_lvm.store import LvmSnapshots
from i2_store_lvm.volumes import parse_volumes

from i2core.api import Code, Line
from i2core.api.snapshots import SnapshotContext

HERE = Path(__file__).parent
ROW = {
    "vg_name": "vgbackup",
    "lv_name": "i2snap-7-3f2a-0",
    "lv_attr": "sri-a-s---",
    "lv_size": "104857600",
    "origin": "data1",
    "pool_lv": "",
    "data_percent": "12.34",
    "lv_tags": "i2_00ff,mine",
    "lv_kernel_major": "252",
    "lv_kernel_minor": "3",
}


def _report(*rows: dict[str, str]) -> bytes:
    return json.dumps({"report": [{"lv": list(rows)}]}).encode()


def test_a_report_is_read() -> None:
    pool = ROW | {"lv_name": "[pool_tdata]", "lv_tags": "", "data_percent": "", "origin": "", "lv_kernel_major": "-1"}
    volume, inner = parse_volumes(_report(ROW, pool))
    assert (volume.path, volume.size_bytes, volume.origin) == ("/dev/vgbackup/i2snap-7-3f2a-0", 100 << 20, "data1")
    assert volume.is_valid and not volume.is_thin
    assert volume.tags == {"i2_00ff", "mine"} and volume.device == (252, 3)
    assert (inner.name, inner.used_percent, inner.tags) == ("pool_tdata", 0.0, frozenset())


@pytest.mark.parametrize("attr", ["swi-I-s---", "Swi-S-s---", "swi---s---"])
def test_a_snapshot_that_overflowed_is_not_valid(attr: str) -> None:
    assert not parse_volumes(_report(ROW | {"lv_attr": attr}))[0].is_valid


@pytest.mark.parametrize("told", [b"", b"{}", b'{"report": []}', b'{"report": [{"lv": [{}]}]}'])
def test_another_answer_is_told(told: bytes) -> None:
    with pytest.raises(Failed):
        parse_volumes(told)


def test_what_a_command_says_is_told() -> None:
    with pytest.raises(Failed, match="is not installed"):
        run("no-such-command-of-lvm")
    with pytest.raises(Failed, match="sh: first; second"):
        run("sh", "-c", "echo first >&2; echo WARNING: no >&2; echo second >&2; exit 5")
    with pytest.raises(Failed) as failed:
        run("sh", "-c", "echo 'Volume group \"vg\" has insufficient free space (1 extents)' >&2; exit 5")
    assert failed.value.is_full


@pytest.mark.parametrize("name", ["-rf", "a b", "a/b", "ä"])
def test_names_of_groups_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="volume group"):
        LvmConfig(volume_group=name)


async def test_a_snapshot_that_cannot_be_extended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is lost soon: the administrator has some time left."""

    def refuse(*command: str | bytes) -> bytes:
        raise Failed("lvextend: insufficient free space")

    said: list[str] = []
    context = SnapshotContext(roots=(b"/mnt/replicas/data1",), allowed=(b"/mnt/replicas",), say=said.append)
    store = LvmSnapshots(LvmConfig(), context)
    nearly_full = ROW | {"data_percent": "91.00", "lv_tags": store.tag}
    monkeypatch.setattr("i2_store_lvm.store.read_volumes", lambda: parse_volumes(_report(nearly_full)))
    monkeypatch.setattr("i2_store_lvm.store.run", refuse)
    await store.tend()
    (line,) = said
    assert isinstance(line, Line)
    assert line.code is Code.VOLUME_GROUP_EXTEND
    assert (
        line == "/dev/vgbackup/i2snap-7-3f2a-0 is 91% full, and cannot be extended: lvextend: insufficient free space"
    )


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("layout", ["classic-ext4", "thin-ext4", "classic-xfs"])
def test_real_volumes_in_a_guest(layout: str) -> None:
    """The kernel of this host may have no device mapper, so the tests of `test_store_lvm_volumes.py` run in a guest."""
    if shutil.which("linux.uml") is None or shutil.which("lvcreate") is None or shutil.which("thin_check") is None:
        pytest.skip("needs user-mode-linux, lvm2, thin-provisioning-tools and kmod")
    command = (
        f"I2_SPARE_DISK=/dev/ubda {sys.executable} -m pytest -p no:cacheprovider -o faulthandler_timeout=0 -q "
        f"--basetemp=/mnt/t {HERE / 'test_store_lvm_volumes.py'} -k {layout}"
    )
    done = subprocess.run([HERE / "vm.sh", command], check=False, capture_output=True, text=True)  # noqa: S603
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "[100%]" in done.stdout, done.stdout
