"""The config reference has every key that loading knows, and its fragments are valid."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from i2core.config.lines import Lines
from i2core.config.load import load, read_node
from i2core.config.table import Report
from i2core.testing.named import NamedDrivers

ROOT = Path(__file__).parents[2]
REFERENCES = [ROOT / "docs/config.md", ROOT / "docs/config.zh.md"]

# One of every table, so that every key is asked for.
ALL_TABLES = """
[node]
[[node.console]]
[backup]
[[backup.peer]]
[[backup.key]]
[work]
[[work.peer]]
[[rule]]
paths = [{}]
encrypt = {}
snapshot = {}
cdp = {}
[[rule.bandwidth]]
[[work.bandwidth]]
"""

HEAD = """
[node]
name = "web1"
[work]
[[work.peer]]
name = "bak144"
address = "192.0.2.1"
fingerprint = "sha256:9b74c9897bac770ffc029102a200c5de2f1e0d3c4b5a69788796a5b4c3d2e1f0"
"""


def known_keys() -> set[str]:
    report = Report("all.toml", Lines(ALL_TABLES))
    read_node(tomllib.loads(ALL_TABLES), Path("all.toml"), report, NamedDrivers(), look_at_disk=False)
    return report.known_keys()


def test_every_key_is_known() -> None:
    # Guards the test below: a key that is not asked for would not be missed there.
    assert {
        "node.state_dir",
        "rule.brake.window",
        "rule.bandwidth.hours",
        "backup.key.rule",
        "rule.cdp.daily",
        "backup.cdp.lock",
    } <= known_keys()
    assert len(known_keys()) > 60


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: path.name)
def test_every_key_is_in_the_reference(reference: Path) -> None:
    text = reference.read_text("utf-8")
    words = {part for code in re.findall(r"`([^`\n]+)`", text) for part in re.findall(r"[a-z_]+", code)}
    assert [key for key in sorted(known_keys()) if key.rpartition(".")[2] not in words] == []


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: path.name)
def test_fragments_are_valid(reference: Path, tmp_path: Path) -> None:
    fragments = re.findall(r"^```toml\n(.*?)^```$", reference.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(fragments) >= 5
    for i, fragment in enumerate(fragments):
        path = tmp_path / f"{i}.toml"
        rest = "" if "[node]" in fragment else HEAD
        path.write_text(rest + fragment, encoding="utf-8")
        load(path, NamedDrivers(), look_at_disk=False)
