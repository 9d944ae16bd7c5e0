"""Finds a node's state directory and rule names in a config that may have mistakes elsewhere.

`i2 node id` must print the fingerprint of a new node while its peers' fingerprints are still missing in the file, and
`i2 rule …` must reach the daemon while the rules in the file are being edited.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import attrs

from i2core.api import UsageError
from i2core.config.values import Wrong, directory_below_root, name
from i2core.config.words import bilingual, language

DEFAULT_CONFIG = Path("/etc/i2/node.toml")
DEFAULT_STATE_DIR = Path("/var/lib/i2")


@attrs.frozen
class NodePlace:
    """The ``[node]`` table of a config."""

    name: str
    state_dir: Path


def node_place(config: Path) -> NodePlace:
    """Reads only the ``[node]`` table.

    Raises:
        UsageError: no such file, not TOML, or that table is wrong.
    """
    table = _parsed(config).get("node")
    if not isinstance(table, dict) or "name" not in table:
        raise UsageError(bilingual("needs a [node] table with a name", "需要含 name 的 [node] 表"), obj=str(config))
    try:
        state_dir = directory_below_root(table.get("state_dir", str(DEFAULT_STATE_DIR)))
        return NodePlace(name(table["name"]), Path(os.fsdecode(state_dir)))
    except Wrong as wrong:
        raise UsageError(wrong.message.text(language()), obj=f"{config}: [node]") from None


def find_state_dir(config: Path | None, state_dir: Path | None) -> Path:
    """The state directory of a command: `state_dir`, else that of `config`, else that of the default config, else the
    default.

    Raises:
        UsageError: the config cannot be read.
    """
    if state_dir is not None:
        return state_dir
    if config is None and not DEFAULT_CONFIG.exists():
        return DEFAULT_STATE_DIR
    return node_place(config or DEFAULT_CONFIG).state_dir


def rule_names(config: Path | None) -> tuple[str, ...]:
    """Names of the rules in that config, or in the default one, even if the config has mistakes."""
    try:
        tables = _parsed(config or DEFAULT_CONFIG).get("rule")
    except UsageError:
        return ()
    entries = tables if isinstance(tables, list) else []
    return tuple(str(table["name"]) for table in entries if isinstance(table, dict) and "name" in table)


def _parsed(config: Path) -> dict[str, Any]:
    """
    Raises:
        UsageError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(config.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            error.strerror or str(error), obj=str(config), next_step=bilingual("name the config file", "请指定配置文件")
        ) from None
    except (ValueError, RecursionError) as error:  # TOML and UTF-8 errors are ValueErrors
        raise UsageError(bilingual(f"not a TOML file: {error}", f"不是 TOML 文件：{error}"), obj=str(config)) from None
