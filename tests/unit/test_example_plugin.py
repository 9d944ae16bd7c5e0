"""The example plugin, installed by pip into a separate directory, works like any other plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_TOP = Path(__file__).parents[2]
_EXAMPLE = _TOP / "examples" / "plugins" / "i2-codec-zlib"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the example is installed in."""
    pytest.importorskip("pip", reason="needs pip")
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(_EXAMPLE)]
    subprocess.run(command, check=True)  # noqa: S603
    return target


def _python(installed: Path, code: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(installed), str(_TOP)])
    environment = {**os.environ, "PYTHONPATH": path, "I2_LANG": "en"}
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env=environment, cwd=installed, capture_output=True, text=True, check=False
    )


def _i2(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return _python(installed, f"import sys; from i2core.cli.main import run; sys.exit(run({list(arguments)!r}))")


def test_it_is_listed(installed: Path) -> None:
    ran = _i2(installed, "plugins", "list", "--json")
    assert ran.returncode == 0, ran.stderr
    assert {
        "name": "zlib",
        "distribution": "i2-codec-zlib",
        "version": "1.0",
        "drivers": [{"kind": "codec", "name": "zlib", "summary": "zlib"}],
    } in json.loads(ran.stdout)["plugins"]


@pytest.mark.parametrize("options", [[], ["--option", "level=9"]])
def test_it_keeps_its_contract(installed: Path, options: list[str]) -> None:
    ran = _i2(installed, "plugins", "check", "zlib", *options)
    assert (ran.returncode, ran.stdout) == (0, "codec zlib: good\n"), ran.stderr


def test_its_options_are_checked(installed: Path) -> None:
    ran = _i2(installed, "plugins", "check", "zlib", "--option", "level=10")
    assert ran.returncode == 2
    assert "'level' must be <= 9" in ran.stderr


def test_it_encodes_and_decodes_bytes(installed: Path) -> None:
    code = """
import trio
from i2core.api import CodecContext, DriverKind
from i2core.registry import Registry

async def main():
    spec = Registry.load(["zlib"]).driver(DriverKind.CODEC, "zlib")
    async with spec.open(spec.config(), CodecContext(rule="data1")) as codec:
        encoded = codec.encode(bytes(100_000), seq=1, header=b"")
        decoded = codec.decode(encoded, seq=1, header=b"", limit=100_000)
        print(len(encoded) < 1000, decoded == bytes(100_000))

trio.run(main)
"""
    ran = _python(installed, code)
    assert ran.stdout == "True True\n", ran.stderr
