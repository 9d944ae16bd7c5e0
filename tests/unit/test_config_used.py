"""A key without effect is worse than none: each key is read by some code, or reported as having no effect."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import attrs
import pytest

from i2core.api import DriverSpec
from i2core.config import model
from i2core.config.load import load
from i2core.config.notices import DORMANT_OF_RULE, notices
from i2core.registry import Registry
from i2core.testing.named import NamedDrivers

ROOT = Path(__file__).parents[2]
WAITING = {f"Rule.{key}" for key in DORMANT_OF_RULE}
"""What no code reads. `rule.cdp` is read, so this test cannot miss `backup.cdp`, whose name is the same."""
CLASSES = [each for _, each in inspect.getmembers(model, attrs.has) if each.__module__ == model.__name__]


def _reads(*folders: Path) -> dict[str, int]:
    """How often each attribute is read in the sources."""
    counts: dict[str, int] = {}
    for folder in folders:
        for path in folder.rglob("*.py"):
            if ROOT / "i2core" / "config" in path.parents or ROOT / "i2core" / "testing" in path.parents:
                continue  # what reads files, and what tests
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    counts[node.attr] = counts.get(node.attr, 0) + 1
    return counts


def _owned(kind: type) -> set[str]:
    """Classes of values that only keys without effect have."""
    return {model.HistoryTerms.__name__} & {kind.__name__}


def test_each_key_is_read_or_reported_as_without_effect() -> None:
    reads = _reads(ROOT / "i2core")
    unread = {
        f"{kind.__name__}.{field.name}"
        for kind in CLASSES
        if not _owned(kind)
        for field in attrs.fields(kind)
        if field.name not in reads
    }
    assert unread == WAITING


@pytest.mark.parametrize("reader", ["first", "verify", "on_error"])
def test_each_key_of_the_mirror_is_read_from_it(reader: str) -> None:
    """Names as short as `first` are attributes of other objects as well."""
    source = "".join(path.read_text("utf-8") for path in (ROOT / "i2core" / "rule").rglob("*.py"))
    assert f"mirror.{reader}" in source


def _drivers() -> list[DriverSpec]:
    return [spec for entry in Registry.load().plugins for spec in entry.drivers]


@pytest.mark.parametrize("spec", _drivers(), ids=lambda spec: f"{spec.kind.value}-{spec.name}")
def test_each_option_of_a_driver_is_read(spec: DriverSpec) -> None:
    config: Any = spec.config
    reads = _reads(Path(inspect.getfile(config)).parent)
    assert [field.name for field in attrs.fields(config) if field.name not in reads] == []


HEAD = """
[node]
name = "n"
control_port = 0
control_listen = "127.0.0.1"
[[node.console]]
name = "c"
fingerprint = "sha256:1f0ce4a3b52a7c86b7c6e3a0d5cf1cf0e2f2a1c3b4d5e6f708192a3b4c5d6e7f"
[backup]
allow_roots = ["/srv/replicas"]
cdp_dir = "/srv/cdp"
cdp = {{ grace = "9d" }}
[work]
[[work.peer]]
name = "bak"
address = "192.0.2.1"
fingerprint = "sha256:9b74c9897bac770ffc029102a200c5de2f1e0d3c4b5a69788796a5b4c3d2e1f0"
[[rule]]
name = "r"
backup = "bak"
paths = [{{ source = "{source}", target = "/b" }}]
snapshot = {{ every = "1h" }}
cdp = {{ daily = 3 }}
delete_target_with_rule = true
exclude = ["{source}/there", "{source}/typo", "{source}/*.tmp"]
"""


def test_keys_without_effect_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    (tmp_path / "there").mkdir()
    path = tmp_path / "n.toml"
    path.write_text(HEAD.format(source=tmp_path))
    found = list(notices(load(path, NamedDrivers())))
    assert [notice.key for notice in found] == [
        "backup.cdp.grace",
        "node.control_listen",
        "node.console",
        "rule.delete_target_with_rule",
        "rule.exclude",
        "rule.exclude",
    ]
    typo, pattern = found[-2:]
    assert f"{tmp_path}/typo" in typo.cause
    assert "file_types = { exclude = ['*.tmp'] }" in pattern.next_step
    assert all(notice.cause.zh and notice.next_step.zh for notice in found)
