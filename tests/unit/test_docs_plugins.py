"""The plugin author's guide is right: its code is that of the example, its hooks and fields are the real ones."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import attrs
import pytest

from i2core.api import DriverKind, DriverSpec
from i2core.api.hooks import Hooks
from i2core.testing.checks import CHECKS

_TOP = Path(__file__).parents[2]
_GUIDE = (_TOP / "docs" / "plugins.md").read_text()
_HOOKS = sorted(name for name in vars(Hooks) if name.startswith("i2_"))


def test_code_that_names_a_file_is_that_file() -> None:
    quoted = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```\n", _GUIDE, re.DOTALL)
    example = _TOP / "examples" / "plugins" / "i2-codec-zlib"
    assert {_TOP / name for name, _ in quoted} == {*example.rglob("*.py"), example / "pyproject.toml"}
    for name, code in quoted:
        assert code == (_TOP / name).read_text(), f"{name} differs from the guide"


@pytest.mark.parametrize("hook", _HOOKS)
def test_every_hook_stands_there_with_its_exact_signature(hook: str) -> None:
    signature = inspect.signature(getattr(Hooks, hook))
    plain = signature.replace(parameters=[p for p in signature.parameters.values() if p.name != "self"])
    parameters = ", ".join(str(p).replace("'", "") for p in plain.parameters.values())
    assert f"\ndef {hook}({parameters}) -> {plain.return_annotation}: ...\n" in _GUIDE


def test_no_hook_stands_there_that_is_not() -> None:
    assert sorted(set(re.findall(r"^def (i2_\w+)\(.*: \.\.\.$", _GUIDE, re.MULTILINE))) == _HOOKS


def _of_api(name: str) -> type:
    """What the guide means: a name in `i2core.api`, or in a package of it."""
    package, _, last = f"i2core.api.{name}".rpartition(".")
    found: type = getattr(importlib.import_module(package), last)
    return found


@pytest.mark.parametrize("kind", DriverKind)
def test_every_kind_stands_there_with_its_contract_and_its_check(kind: DriverKind) -> None:
    row = next(line for line in _GUIDE.splitlines() if line.startswith(f"| `{kind.name}` |"))
    contract, context, check, plugin = re.findall(r"`([^`]+)`", row)[1:]
    assert inspect.isabstract(_of_api(contract))
    assert attrs.has(_of_api(context))
    assert check == f"check_{kind.value}"
    assert kind in CHECKS
    assert plugin.startswith("plugins/")


def test_every_field_of_a_driver_spec_stands_there() -> None:
    section = _GUIDE.split("## DriverSpec\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert named == [field.name for field in attrs.fields(DriverSpec)]
