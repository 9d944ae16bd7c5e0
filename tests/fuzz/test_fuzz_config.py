"""Any bytes are a config or a list of mistakes, without delay, and loading them changes nothing."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given

from i2core.cli.main import run
from i2core.config.load import ConfigErrors, load
from i2core.config.model import NodeConfig
from i2core.registry import Registry

from .mutation import corpus, mutated

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "configs"
SEEDS = [path.read_bytes() for path in sorted(EXAMPLES.rglob("*.toml"))] + corpus("config")
SOON_S = 5.0
REGISTRY = Registry.load()


def load_bytes(text: bytes) -> NodeConfig | ConfigErrors:
    """The result of loading; fails when it takes long or leaves anything behind."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "node.toml"
        path.write_bytes(text)
        began = time.process_time()
        try:
            found: NodeConfig | ConfigErrors = load(path, REGISTRY)
        except ConfigErrors as errors:
            found = errors
        assert time.process_time() - began < SOON_S
        assert os.listdir(directory) == ["node.toml"]
        assert path.read_bytes() == text
    return found


@given(mutated(SEEDS))
def test_a_config_or_mistakes_with_lines(text: bytes) -> None:
    found = load_bytes(text)
    if isinstance(found, ConfigErrors):
        assert found.mistakes
        assert found.exit_code == 2
        lines = text.count(b"\n") + 1
        for mistake in found.mistakes:
            assert 0 <= mistake.line <= lines
            assert all(mistake.text(language) for language in ("en", "zh"))
    else:
        assert found.name


@pytest.mark.parametrize("text", corpus("config"))
def test_what_broke_or_could_break(text: bytes) -> None:
    assert isinstance(load_bytes(text), ConfigErrors)


@pytest.mark.parametrize("text", corpus("config"))
def test_the_command_ends_with_exit_code_2(text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "node.toml"
    path.write_bytes(text)
    for command in (["node", "peers"], ["node", "run"], ["node", "token"], ["node", "join", "x"]):
        assert run([*command, "--config", str(path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("i2: ")
        assert said.err.isprintable() or said.err.count("\n") == len(said.err.splitlines())
    assert os.listdir(tmp_path) == ["node.toml"]
