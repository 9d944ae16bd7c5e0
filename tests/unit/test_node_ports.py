"""A port that cannot be opened is a mistake in the config: reported with file, line and key, and nothing is changed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from i2core.cli.main import run
from i2core.config.load import ConfigErrors, load
from i2core.node.daemon.lock import locked
from i2core.node.daemon.ports import check_ports
from i2core.testing.named import NamedDrivers


def _config(tmp_path: Path, *, listen: str, mirror: int, replication: int, control: int = 0) -> Path:
    path = tmp_path / "backup.toml"
    path.write_text(
        f'[node]\nname = "bak"\nstate_dir = "{tmp_path}/state"\ncontrol_port = {control}\n'
        f'[backup]\nlisten = "{listen}"\nmirror_port = {mirror}\nreplication_port = {replication}\n'
        f'allow_roots = ["{tmp_path}/replicas"]\n'
    )
    return path


def _told(config: Path) -> list[str]:
    try:
        load(config, NamedDrivers(), look_further=check_ports)
    except ConfigErrors as errors:
        return [mistake.text("en").removeprefix(str(config)) for mistake in errors.mistakes]
    return []


def test_all_ports_in_use_are_reported_and_nothing_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        mirror, control = one.getsockname()[1], other.getsockname()[1]
        config = _config(tmp_path, listen="127.0.0.1", mirror=mirror, replication=mirror + 1, control=control)
        assert run(["node", "run", "--config", str(config)]) == 2
    said = capsys.readouterr().err
    assert f"{config}:4: node.control_port: port {control} is in use; allowed: a free port" in said
    assert f"{config}:7: backup.mirror_port: port {mirror} is in use; allowed: a free port" in said
    assert os.listdir(tmp_path) == ["backup.toml"]


def test_an_address_of_another_host(tmp_path: Path) -> None:
    (told,) = _told(_config(tmp_path, listen="192.0.2.7", mirror=1, replication=2))
    assert told.startswith(":6: backup.listen: no interface of this host has the address '192.0.2.7'")


def test_free_ports_stay_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    config = _config(tmp_path, listen="127.0.0.1", mirror=port, replication=port + 1)
    assert (_told(config), _told(config)) == ([], [])


def test_a_running_daemon_holds_its_own_ports(tmp_path: Path) -> None:
    """The second daemon's error is about the state directory that both use."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
        config = _config(tmp_path, listen="127.0.0.1", mirror=port, replication=port + 1)
        with locked(tmp_path / "state"):
            assert _told(config) == []
        assert len(_told(config)) == 1
