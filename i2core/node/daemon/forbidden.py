"""Where nothing may be recovered or mounted: what belongs to this node, and what its rules read or write."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from i2core.config.words import bilingual
from i2core.posix.path_text import as_path
from i2core.recovery.destination import Forbidden

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode


def forbidden_places(node: RunningNode, *, besides: Collection[str] = ()) -> list[Forbidden]:
    """All such places; sources of the rules `besides` are none of them."""
    return [*_own(node), *_sources(node, besides), *_targets(node)]


def _own(node: RunningNode) -> Iterator[Forbidden]:
    config = node.config
    yield Forbidden(os.fsencode(config.state_dir), bilingual("this node's state directory", "本节点的状态目录"))
    if config.backup is not None and config.backup.cdp_dir is not None:
        yield Forbidden(config.backup.cdp_dir, bilingual("the directory of all histories", "历史数据目录"))
    if config.work is not None and config.work.cache_dir is not None:
        cache = os.fsencode(config.work.cache_dir)
        yield Forbidden(cache, bilingual("this node's cache directory", "本节点的缓存目录"))


def _sources(node: RunningNode, besides: Collection[str]) -> Iterator[Forbidden]:
    for rule in node.config.rules:
        runner = node.runners.get(rule.name)
        if runner is not None and runner.will_run and rule.name not in besides:
            why = bilingual(f"a source of rule {rule.name}, which is running", f"正在运行的规则 {rule.name} 的源目录")
            step = bilingual(
                f"choose another directory; or stop the rule (i2 rule stop {rule.name}); or add --stop-rule",
                f"请选择其他目录；或先停止该规则（i2 rule stop {rule.name}）；也可加上 --stop-rule",
            )
            yield from (Forbidden(pair.source, why, step) for pair in rule.pairs)


def _targets(node: RunningNode) -> Iterator[Forbidden]:
    if node.backup is None:
        return
    for position in node.backup.positions():
        why = bilingual(
            f"the replica of rule {position.rule} of {position.peer}", f"{position.peer} 的规则 {position.rule} 的副本"
        )
        yield from (Forbidden(as_path(target), why) for target in position.targets)
