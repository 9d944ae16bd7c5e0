"""Distributions, pins and contracts agree: all files say the same about a plugin or a dependency."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import i2core

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
MEMBERS = [ROOT, *PLUGINS]
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


def project(directory: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((directory / "pyproject.toml").read_text())
    return loaded


def pins(name: str) -> dict[str, Version]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {canonicalize_name(package): Version(version) for package, version in PIN.findall(text)}


@pytest.mark.parametrize("directory", MEMBERS, ids=lambda d: d.name)
def test_every_dependency_is_pinned(directory: Path) -> None:
    found = pins("runtime")
    for line in project(directory)["project"]["dependencies"]:
        wanted = Requirement(line)
        if canonicalize_name(wanted.name) == "i2core" or (wanted.marker and not wanted.marker.evaluate()):
            continue
        assert canonicalize_name(wanted.name) in found, f"{wanted.name} is missing in requirements/runtime.in"
        assert found[canonicalize_name(wanted.name)] in wanted.specifier


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_pins_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"\n(?=\S)", text.strip())
    assert blocks
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


def test_development_has_what_runs() -> None:
    assert pins("runtime").items() <= pins("dev").items()


@pytest.mark.parametrize("directory", PLUGINS, ids=lambda d: d.name)
def test_plugin_has_the_shape_of_all_plugins(directory: Path) -> None:
    package = f"i2_{directory.name}"
    about = project(directory)["project"]
    assert about["name"] == package.replace("_", "-")
    assert about["version"] == i2core.__version__
    assert about["license"] == "Apache-2.0"
    assert about["requires-python"] == ">=3.11"
    assert list(about["entry-points"]["i2core.plugins"].values()) == [f"{package}.plugin"]
    for name in ("README.md", f"src/{package}/py.typed", f"src/{package}/plugin.py", f"src/{package}/__init__.py"):
        assert (directory / name).is_file(), name


def test_import_contracts_name_every_plugin() -> None:
    """Import-linter sees only what is listed: a plugin that is missing there would be free to import anything."""
    linter = project(ROOT)["tool"]["importlinter"]
    contracts = {contract["id"]: contract for contract in linter["contracts"]}
    plugins = [f"i2_{directory.name}" for directory in PLUGINS]
    core = {f"i2core.{path.stem}" for path in (ROOT / "i2core").glob("[a-z]*") if path.name != "py.typed"}
    assert linter["root_packages"] == ["i2core", *plugins]
    assert contracts["core"]["forbidden_modules"] == plugins
    assert contracts["plugins"]["source_modules"] == plugins
    assert contracts["apart"]["modules"] == plugins
    # What a plugin imports from `i2core.api` may lie in `i2core.net`.
    assert core - {"i2core.api", "i2core.net", "i2core.posix"} == set(contracts["plugins"]["forbidden_modules"])


def test_versions_agree() -> None:
    assert project(ROOT)["project"]["version"] == i2core.__version__
    assert f"## {i2core.__version__}" in (ROOT / "CHANGELOG.md").read_text()
