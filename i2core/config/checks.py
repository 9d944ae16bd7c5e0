"""What shows only when tables of a config are seen together: names twice, peers nobody knows, paths in each other's
way. Each check is one sentence that an administrator would agree with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

from i2core.config.lines import KeyPath
from i2core.config.model import NodeConfig, PeerEntry, Rule
from i2core.config.places import beneath, nested, real
from i2core.config.rules import PlacedRule
from i2core.config.table import Report
from i2core.config.values import is_loopback, not_one_of, shown
from i2core.config.words import Words, both


def check_node(config: NodeConfig, placed: Sequence[PlacedRule], report: Report, *, look_at_disk: bool) -> None:
    """Notes all mistakes between the tables. `look_at_disk` False: symlinks are not resolved."""
    resolve = real if look_at_disk else lambda path: path
    if placed and config.work is None:
        for rule in placed:
            report.add(
                rule.path, Words("a rule belongs to a work node: [work] is missing", "规则属于工作机：缺少 [work]")
            )
    unique_names([(rule.path, rule.rule.name) for rule in placed], Words("rule", "规则"), report)
    _targets_apart(placed, report)
    for rule in placed:
        peer = _peer_of(rule, config, report)
        _own_directories_outside(rule, config, report, resolve)
        _orphans_apart(rule, report)
        if peer is not None and _is_local(peer, config):
            _source_and_target_apart(rule, report, resolve)
            _targets_allowed(rule, config, report, resolve)


def unique_names(names: Iterable[tuple[KeyPath, str]], what: Words, report: Report, key: str = "name") -> None:
    """Notes each name that stands a second time; `key` is where it stands in its table."""
    seen: set[str] = set()
    for path, name in names:
        if name and name in seen:
            report.add((*path, key), Words(f"a second {what.en} {shown(name)}", f"重复的{what.zh} {shown(name)}"))
        seen.add(name)


def _peer_of(placed: PlacedRule, config: NodeConfig, report: Report) -> PeerEntry | None:
    if config.work is None or not placed.rule.backup:
        return None
    peers = {peer.name: peer for peer in config.work.peers if peer.name}
    if placed.rule.backup not in peers:
        wrong = not_one_of(placed.rule.backup, peers, kind=Words("peer", "对端"))
        report.add((*placed.path, "backup"), wrong.message, wrong.allowed)
    return peers.get(placed.rule.backup)


def _is_local(peer: PeerEntry, config: NodeConfig) -> bool:
    return peer.name == config.name or (peer.address is not None and is_loopback(peer.address))


def _pairs(placed: PlacedRule) -> Iterator[tuple[KeyPath, bytes, bytes]]:
    for path, pair in zip(placed.pairs, placed.rule.pairs, strict=True):
        if pair.source and pair.target:
            yield path, pair.source, pair.target


def _targets_apart(placed: Sequence[PlacedRule], report: Report) -> None:
    """On one backup node no target is, or lies in, another one: each would take the other's files for orphans."""
    seen: list[tuple[Rule, bytes]] = []
    for rule in placed:
        for path, _, target in _pairs(rule):
            for other, taken in seen:
                if other.backup == rule.rule.backup and nested(target, taken):
                    message = Words(
                        f"{shown(target)} and target {shown(taken)} of rule {shown(other.name)} are the same or nested",
                        f"{shown(target)} 与规则 {shown(other.name)} 的目标 {shown(taken)} 相同或互相包含",
                    )
                    report.add((*path, "target"), message)
            seen.append((rule.rule, target))


def _source_and_target_apart(placed: PlacedRule, report: Report, resolve: Callable[[bytes], bytes]) -> None:
    """On one host a target in its source would be replicated into itself without end."""
    sources = [(source, resolve(source)) for _, source, _ in _pairs(placed)]
    for path, _, target in _pairs(placed):
        for source, real_source in sources:
            if nested(resolve(target), real_source):
                message = Words(
                    f"{shown(target)} and the source {shown(source)} are the same or nested on this host",
                    f"{shown(target)} 与源 {shown(source)} 在本机上相同或互相包含",
                )
                report.add((*path, "target"), message)


def _targets_allowed(placed: PlacedRule, config: NodeConfig, report: Report, resolve: Callable[[bytes], bytes]) -> None:
    if config.backup is None or not config.backup.allow_roots:
        return
    roots = config.backup.allow_roots
    allowed = Words(
        "beneath " + ", ".join(shown(root) for root in roots),
        "位于 " + "、".join(shown(root) for root in roots) + " 之下",
    )
    wanted = [((*path, "target"), target) for path, _, target in _pairs(placed)]
    if placed.rule.orphans.to:
        wanted.append(((*placed.path, "orphans", "to"), placed.rule.orphans.to))
    for path, target in wanted:
        if not any(beneath(resolve(target), resolve(root)) for root in roots):
            report.add(
                path,
                Words(f"{shown(target)} lies outside allow_roots", f"{shown(target)} 不在 allow_roots 之内"),
                allowed,
            )


def _orphans_apart(placed: PlacedRule, report: Report) -> None:
    """What was set aside into a target would be an orphan again; and a target in there would be no replica."""
    to = placed.rule.orphans.to
    for _, _, target in _pairs(placed):
        if to and nested(to, target):
            message = Words(
                f"{shown(to)} and the target {shown(target)} are the same or nested",
                f"{shown(to)} 与目标 {shown(target)} 相同或互相包含",
            )
            report.add((*placed.path, "orphans", "to"), message)


def _own_directories_outside(
    placed: PlacedRule, config: NodeConfig, report: Report, resolve: Callable[[bytes], bytes]
) -> None:
    """A node that replicates its own state has, with each change it sends, one more to send."""
    own = {"node.state_dir": os.fsencode(config.state_dir)}
    if config.work is not None and config.work.cache_dir is not None:
        own["work.cache_dir"] = os.fsencode(config.work.cache_dir)
    for path, source, _ in _pairs(placed):
        for key, directory in own.items():
            inside = beneath(resolve(directory), resolve(source))
            if inside and not any(beneath(directory, excluded) for excluded in placed.excludes):
                message = Words(
                    f"{shown(source)} holds this node's own {key} {shown(directory)}",
                    f"{shown(source)} 包含本节点自己的 {key} {shown(directory)}",
                )
                report.add((*path, "source"), message, both(f"exclude = [{shown(directory)}]"))
