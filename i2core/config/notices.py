"""Config entries without effect: reported at each start of the node and by ``i2 node doctor``, so that nobody relies on
them in an emergency. None of them is a mistake that would keep the node from running."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from i2core.config.model import HistoryTerms, NodeConfig, Rule
from i2core.config.values import absolute_path, quoted
from i2core.config.words import Bilingual, bilingual

DORMANT_OF_RULE = ("delete_target_with_rule",)
"""Keys of a rule that only a later version will implement."""
PATTERN = re.compile(r"[*?\[]")
"""Characters that shells and other tools interpret as a pattern."""


def all_beneath(pattern: str) -> str:
    """The directory to exclude instead of a pattern such as ``/srv/tmp/*``; empty for any other pattern."""
    above, _, last = pattern.rstrip("/").rpartition("/")
    return above if last in ("*", "**") and not PATTERN.search(above) else ""


class Notice(NamedTuple):
    """One entry that has no effect."""

    rule: str
    """Empty: it does not belong to one rule."""
    key: str
    cause: Bilingual
    next_step: Bilingual


def notices(config: NodeConfig) -> Iterator[Notice]:
    """All current notices. Checks on disk whether excluded paths exist."""
    if config.backup is not None and config.backup.cdp.grace_s != HistoryTerms().grace_s:
        yield _dormant("", "backup.cdp.grace")
    if config.control_port == 0 and config.control_listen is not None:
        yield _shut("node.control_listen")
    if config.control_port == 0 and config.consoles:
        yield _shut("node.console")
    for rule in config.rules:
        for key in DORMANT_OF_RULE:
            if getattr(rule, key):
                yield _dormant(rule.name, f"rule.{key}")
        yield from _absent(rule)


def _dormant(rule: str, key: str) -> Notice:
    return Notice(
        rule,
        key,
        bilingual("not available in this version: it has no effect", "此版本尚不支持，不起作用"),
        bilingual("do not rely on it", "请勿依赖它"),
    )


def _shut(key: str) -> Notice:
    return Notice(
        "",
        key,
        bilingual("control_port is 0: this node cannot be reached this way", "control_port 为 0：无法由此访问本节点"),
        bilingual("remove one of the two", "请删除其中之一"),
    )


def _absent(rule: Rule) -> Iterator[Notice]:
    """Excluded paths that do not exist: each may be created later, or be mistyped."""
    excluded = [path for choice in rule.filters if choice.name == "glob" for path in choice.options.get("exclude", ())]
    for path in excluded:
        if os.path.lexists(absolute_path(path)):
            continue
        yield Notice(
            rule.name,
            "rule.exclude",
            bilingual(f"{quoted(path)} does not exist: it excludes nothing", f"{quoted(path)} 不存在：未排除任何内容"),
            _instead(path),
        )


def _instead(path: str) -> Bilingual:
    if not PATTERN.search(path):
        return bilingual("correct the path, unless it will be created later", "请更正路径；若以后才出现则无需处理")
    if above := all_beneath(path):
        return bilingual(f"{quoted(above)} excludes everything beneath it", f"写 {quoted(above)} 即排除其下全部内容")
    name = quoted(path.rpartition("/")[2])
    return bilingual(
        f"for names of files: file_types = {{ exclude = [{name}] }}",
        f"若按文件名排除，请写 file_types = {{ exclude = [{name}] }}",
    )
