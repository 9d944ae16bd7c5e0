"""Where a node's state lies, as far as commands need it that must work before the rest of its config is right.

A new node is asked for its fingerprint (`i2 node id`) while its peers' fingerprints are still missing in its file, and
a daemon must be reachable (`i2 rule …`) while somebody edits the rules in it.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import attrs

from i2core.api import UsageError
from i2core.config.values import Wrong, directory_below_root, name
from i2core.config.words import language
from i2core.node.speech import said

DEFAULT_CONFIG = Path("/etc/i2/node.toml")
DEFAULT_STATE_DIR = Path("/var/lib/i2")


@attrs.frozen
class NodePlace:
    """The ``[node]`` table of a config."""

    name: str
    state_dir: Path


def node_place(config: Path) -> NodePlace:
    """Reads the ``[node]`` table alone.

    Raises:
        UsageError: no file, no TOML, or that table is wrong.
    """
    try:
        data = tomllib.loads(config.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(
            error.strerror or str(error), obj=str(config), next_step=said("name the config file", "请指定配置文件")
        ) from None
    except (ValueError, RecursionError) as error:  # TOML and UTF-8 errors are both of the former
        raise UsageError(said(f"not a TOML file: {error}", f"不是 TOML 文件：{error}"), obj=str(config)) from None
    table = data.get("node")
    if not isinstance(table, dict) or "name" not in table:
        raise UsageError(said("needs a [node] table with a name", "需要含 name 的 [node] 表"), obj=str(config))
    try:
        state_dir = directory_below_root(table.get("state_dir", str(DEFAULT_STATE_DIR)))
        return NodePlace(name(table["name"]), Path(os.fsdecode(state_dir)))
    except Wrong as wrong:
        raise UsageError(wrong.message.text(language()), obj=f"{config}: [node]") from None


def find_state_dir(config: Path | None, state_dir: Path | None) -> Path:
    """The state directory that a command means: the one it was given, else the config's, else the default config's,
    else the default.

    Raises:
        UsageError: the config cannot be read.
    """
    if state_dir is not None:
        return state_dir
    if config is None and not DEFAULT_CONFIG.exists():
        return DEFAULT_STATE_DIR
    return node_place(config or DEFAULT_CONFIG).state_dir
