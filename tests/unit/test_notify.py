"""The state that a service manager gets."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from i2core.node.daemon.notify import notify, reloading

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as here:
        if request.param == "path":
            here.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        else:
            here.bind(f"\0i2-test-{os.getpid()}")
            monkeypatch.setenv("NOTIFY_SOCKET", f"@i2-test-{os.getpid()}")
        here.settimeout(5)
        yield here


def test_states_arrive(manager: socket.socket) -> None:
    assert notify("READY=1", "STATUS=all is well")
    assert manager.recv(1000) == b"READY=1\nSTATUS=all is well"
    assert reloading()
    first, second = manager.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


@pytest.mark.parametrize("address", [None, "", "relative", "/no/such/socket", "@nobody-listens-here"])
def test_a_service_manager_is_not_necessary(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")


def test_the_unit_file_fits_the_daemon() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(ROOT / "examples/systemd/i2.service")
    service = dict(unit["Service"])
    assert service["Type"] == "notify"
    assert service["RestartPreventExitStatus"] == "2"
    assert "-HUP" in service["ExecReload"]
    assert int(service["LimitNOFILE"]) >= 65536
    # What replicas need: setuid files, device nodes, owners.
    assert not {"RestrictSUIDSGID", "PrivateDevices", "ProtectClock", "PrivateUsers"} & service.keys()


@pytest.mark.parametrize("document", ["docs/install.md", "docs/install.zh.md"])
def test_the_manual_shows_the_unit_file(document: str) -> None:
    unit = (ROOT / "examples/systemd/i2.service").read_text("utf-8")
    settings = [line for line in unit.splitlines() if line and not line.startswith("#")]
    text = (ROOT / document).read_text("utf-8")
    shown = text[text.index("[Unit]") : text.index("WantedBy=multi-user.target")]
    assert [line for line in settings[:-1] if line not in shown] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_rated_as_the_manual_says() -> None:
    command = ["systemd-analyze", "security", "--offline=true", str(ROOT / "examples/systemd/i2.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r"Overall exposure level for i2.service: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"it does not rate files: {done.stderr.strip()}")
    assert float(found[1]) <= 4
