"""What a recovery on a work node consists of: which directories of the rule come to which destinations. Pure."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from i2core.api import UsageError
from i2core.config.model import Rule
from i2core.config.places import beneath
from i2core.config.words import bilingual
from i2core.posix.path_text import shown
from i2core.recovery.order import Extra
from i2core.rule.work.opening import directories


@attrs.frozen(kw_only=True)
class Leg:
    """One destination. Paths as text of `os.fsdecode`."""

    to: str
    root: str = ""
    """The directory of the rule that comes to it; empty: all of them."""
    paths: list[str] = attrs.field(factory=list)
    """Only these; empty: everything."""


def legs_of(name: str, rule: Rule | None, to: str | None, paths: Sequence[str], extra: Extra) -> list[Leg]:
    """The destinations of a recovery: the given one, or the original places of this node's own rule.

    Raises:
        UsageError: the rule is not this node's own, so it has no original places here; a path is in none of them; or
            files that the rule excludes would count as extra.
    """
    if to is not None:
        return [Leg(to=to, paths=list(paths))]
    if rule is None:
        raise UsageError(
            bilingual("the rule has no original places on this node", "该规则在本节点没有原位置"),
            obj=name,
            next_step=bilingual("name a directory with --to", "请用 --to 指定目录"),
        )
    _refuse_extra(rule, extra)
    sources = [pair.source for pair in directories(rule)]
    if len(set(sources)) < len(sources):
        raise UsageError(
            bilingual("several files of the rule are in one directory", "该规则有多个文件位于同一目录"),
            obj=name,
            next_step=bilingual("recover to another directory with --to", "请用 --to 恢复到其他目录"),
        )
    chosen: dict[bytes, list[str]] = {source: [] for source in sources}
    for path in paths:
        chosen[_source_of(os.fsencode(path), sources)].append(path)
    return [
        Leg(to=os.fsdecode(source), root=os.fsdecode(source), paths=own)
        for source, own in chosen.items()
        if own or not paths
    ]


def _refuse_extra(rule: Rule, extra: Extra) -> None:
    """The backup node does not know what the rule excludes: such files would count as extra."""
    if extra is not Extra.KEEP and (rule.filters or any(pair.only for pair in directories(rule))):
        raise UsageError(
            bilingual(
                "the rule does not protect all that is in its directories: the rest would count as extra",
                "该规则并不保护其目录中的全部内容：其余内容会被视为多余文件",
            ),
            obj=rule.name,
            next_step=bilingual(
                "recover with --extra keep, or to another directory", "请用 --extra keep，或恢复到其他目录"
            ),
        )


def _source_of(path: bytes, sources: Sequence[bytes]) -> bytes:
    """The directory that a path is in: the innermost one; for a relative path the only one.

    Raises:
        UsageError: there is none, or there are several.
    """
    if not path.startswith(b"/") and len(sources) == 1:
        return sources[0]
    found = [source for source in sources if path.startswith(b"/") and beneath(os.path.normpath(path), source)]
    if not found:
        raise UsageError(
            bilingual("this path is in no directory of the rule here", "该路径不在此规则的任何目录中"),
            obj=shown(path),
            next_step=bilingual(
                f"name one beneath {', '.join(map(shown, sources))}",
                f"请给出位于 {', '.join(map(shown, sources))} 之下的路径",
            ),
        )
    return max(found, key=len)
