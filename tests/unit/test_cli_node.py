"""`i2 node id` works before the config is complete; `peers` and `doctor` change nothing."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from i2core.api import CaptureContext, DriverKind, DriverSpec, Probe, UsageError
from i2core.cli.main import run
from i2core.config.model import NodeConfig, Pair, Rule
from i2core.node.daemon.doctor import examine
from i2core.node.daemon.paths import find_state_dir, node_place
from i2core.registry import PluginProblem, Registry


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\nname = "web1"\nstate_dir = "{tmp_path}/state"\n[work]\n')
    return path


def test_id_makes_the_key_once(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "id", "--config", str(config)]) == 0
    words = capsys.readouterr().out.split()
    assert words[0] == "web1"
    assert words[1].startswith("sha256:")
    assert run(["node", "id", "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "web1", "fingerprint": words[1]}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) & 0o077 == 0


def test_id_needs_no_complete_config(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\nname = "web1"\nstate_dir = "{tmp_path}/s"\n[[work.peer]]\nname = "fingerprint to come"\n')
    assert run(["node", "id", "--config", str(path)]) == 0


@pytest.mark.parametrize(
    "text", ["", "[node]\n", "not toml", "[node]\nname = 5\n", '[node]\nname = "a"\nstate_dir = "relative"\n']
)
def test_wrong_node_tables(text: str, tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"node\.toml"):
        node_place(path)
    assert run(["node", "id", "--config", str(path)]) == 2


def test_the_state_directory_that_a_command_means(config: Path, tmp_path: Path) -> None:
    assert find_state_dir(config, None) == tmp_path / "state"
    assert find_state_dir(config, tmp_path / "other") == tmp_path / "other"
    with pytest.raises(UsageError):
        find_state_dir(tmp_path / "missing.toml", None)


def test_run_reports_all_mistakes_and_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f'[node]\nname = "a"\nstate_dir = "{tmp_path}/s"\ncolour = 1\n[work]\nmemory_limit = "many"\n')
    assert run(["node", "run", "--config", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "node.colour" in lines[0]
    assert "work.memory_limit" in lines[1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["node.toml"]


def _spec(name: str, probe: object) -> DriverSpec:
    return DriverSpec(kind=DriverKind.CAPTURE, name=name, summary=name, open=lambda c, x: None, probe=probe)  # type: ignore[arg-type,return-value]


def _registry(*specs: DriverSpec, problems: tuple[PluginProblem, ...] = ()) -> Registry:
    drivers = {kind: {spec.name: spec for spec in specs if spec.kind is kind} for kind in DriverKind}
    return Registry((), problems, drivers)


def _config(tmp_path: Path, source: Path) -> NodeConfig:
    rule = Rule(name="data", backup="b", pairs=(Pair(source=str(source).encode(), target=b"/t"),))
    return NodeConfig(path=tmp_path / "n.toml", name="n", state_dir=tmp_path / "state", rules=(rule,))


def test_doctor_asks_each_capture_about_the_sources(tmp_path: Path) -> None:
    asked: list[tuple[bytes, ...]] = []

    def fits_not(context: CaptureContext) -> Probe:
        asked.append(context.roots)
        return Probe(False, "needs CAP_SYS_ADMIN")

    def breaks(context: CaptureContext) -> Probe:
        raise ZeroDivisionError

    registry = _registry(_spec("one", fits_not), _spec("two", breaks))
    findings = {finding.what: finding for finding in examine(registry, _config(tmp_path, tmp_path))}
    assert asked == [(str(tmp_path).encode(),)]
    assert findings["capture one for data"].why == "needs CAP_SYS_ADMIN"
    assert "ZeroDivisionError" in findings["capture two for data"].why
    # Without any capture that works no rule can run here.
    assert findings["capture for data"].needed
    assert not findings["capture for data"].works
    assert not (tmp_path / "state").exists()


def test_doctor_names_a_missing_source_and_broken_plugins(tmp_path: Path) -> None:
    problem = PluginProblem("zstd", "i2-codec-zstd", "0.1.0", "cannot be imported")
    registry = _registry(_spec("any", lambda context: Probe(True, "fits")), problems=(problem,))
    findings = {finding.what: finding for finding in examine(registry, _config(tmp_path, tmp_path / "gone"))}
    assert not findings["source of data"].works
    assert "cannot be imported" in findings["plugin zstd"].why
    assert not findings["sink"].works


def test_doctor_as_a_document(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open(config, "a") as text:
        text.write(
            f'[[work.peer]]\nname = "b"\naddress = "127.0.0.1"\nfingerprint = "sha256:{"0" * 64}"\n'
            f'[[rule]]\nname = "r"\nbackup = "b"\npaths = [{{ source = "{tmp_path}/gone", target = "/t" }}]\n'
        )
    assert run(["node", "doctor", "--json", "--config", str(config)]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert {"what", "works", "why", "next", "needed"} == set(findings[0])
    works = {finding["what"]: finding["works"] for finding in findings}
    assert works["source of r"] is False
    assert "openat2" in works
