"""Checks across the tables of a config: duplicate names, unknown peers, paths that overlap. Each check is one rule that
an administrator would agree with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from i2core.config.lines import KeyPath
from i2core.config.model import NodeConfig, PeerEntry, Rule
from i2core.config.mounts import overlap, reaches
from i2core.config.places import beneath, nested, real
from i2core.config.rules import PlacedRule
from i2core.config.table import Report
from i2core.config.values import is_loopback, not_one_of, quoted
from i2core.config.words import Words, both
from i2core.posix.mounts import Mount, mounts_here


def check_node(config: NodeConfig, placed: Sequence[PlacedRule], report: Report, *, look_at_disk: bool) -> None:
    """Reports all mistakes between the tables. `look_at_disk` False: symlinks and bind mounts are not resolved."""
    resolve = real if look_at_disk else lambda path: path
    mounts = mounts_here() if look_at_disk else []
    if placed and config.work is None:
        for rule in placed:
            report.add(
                rule.path, Words("a rule belongs to a work node: [work] is missing", "规则属于工作机：缺少 [work]")
            )
    unique_names([(rule.path, rule.rule.name) for rule in placed], Words("rule", "规则"), report)
    _targets_apart(placed, report)
    _own_files_out_of_reach(config, report, resolve, mounts)
    _histories_leave_room(config, report, resolve)
    for rule in placed:
        peer = _peer_of(rule, config, report)
        _own_directories_outside(rule, config, report, resolve)
        _orphans_apart(rule, report)
        if peer is not None and _is_local(peer, config):
            _source_and_target_apart(rule, report, resolve, mounts)
            _targets_allowed(rule, config, report, resolve)
            _targets_beside_histories(rule, config, report, resolve, mounts)


def unique_names(names: Iterable[tuple[KeyPath, str]], what: Words, report: Report, key: str = "name") -> None:
    """Reports each name that occurs a second time; `key` is its key in the table."""
    seen: set[str] = set()
    for path, name in names:
        if name and name in seen:
            report.add((*path, key), Words(f"a second {what.en} {quoted(name)}", f"重复的{what.zh} {quoted(name)}"))
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


def _written(placed: PlacedRule) -> Iterator[tuple[KeyPath, bytes]]:
    """The directories of the backup node that the rule writes."""
    for path, _, target in _pairs(placed):
        yield (*path, "target"), target
    if placed.rule.orphans.to:
        yield (*placed.path, "orphans", "to"), placed.rule.orphans.to


def _targets_apart(placed: Sequence[PlacedRule], report: Report) -> None:
    """On one backup node no target may be, or lie in, another one: each rule would treat the other's files as
    orphans."""
    seen: list[tuple[Rule, bytes]] = []
    for rule in placed:
        for path, _, target in _pairs(rule):
            for other, taken in seen:
                if other.backup == rule.rule.backup and nested(target, taken):
                    message = Words(
                        f"{quoted(target)} and target {quoted(taken)} of rule {quoted(other.name)} "
                        "are the same or nested",
                        f"{quoted(target)} 与规则 {quoted(other.name)} 的目标 {quoted(taken)} 相同或互相包含",
                    )
                    report.add((*path, "target"), message)
            seen.append((rule.rule, target))


def _source_and_target_apart(
    placed: PlacedRule, report: Report, resolve: Callable[[bytes], bytes], mounts: Sequence[Mount]
) -> None:
    """On one host, a target beneath its source would be replicated into itself endlessly."""
    sources = [(source, resolve(source)) for _, source, _ in _pairs(placed)]
    for path, _, target in _pairs(placed):
        for source, real_source in sources:
            if overlap(resolve(target), real_source, mounts):
                message = Words(
                    f"{quoted(target)} and the source {quoted(source)} are the same or nested on this host",
                    f"{quoted(target)} 与源 {quoted(source)} 在本机上相同或互相包含",
                )
                report.add((*path, "target"), message)


def _targets_allowed(placed: PlacedRule, config: NodeConfig, report: Report, resolve: Callable[[bytes], bytes]) -> None:
    if config.backup is None or not config.backup.allow_roots:
        return
    roots = config.backup.allow_roots
    allowed = Words(
        "beneath " + ", ".join(quoted(root) for root in roots),
        "位于 " + "、".join(quoted(root) for root in roots) + " 之下",
    )
    for path, target in _written(placed):
        if not any(beneath(resolve(target), resolve(root)) for root in roots):
            report.add(
                path,
                Words(f"{quoted(target)} is outside allow_roots", f"{quoted(target)} 不在 allow_roots 之内"),
                allowed,
            )


def _targets_beside_histories(
    placed: PlacedRule,
    config: NodeConfig,
    report: Report,
    resolve: Callable[[bytes], bytes],
    mounts: Sequence[Mount],
) -> None:
    """A work node could change the past if its target contained the histories, or lay among them."""
    own = config.backup.cdp_dir if config.backup is not None else None
    if own is None:
        return
    for path, target in _written(placed):
        if overlap(resolve(target), resolve(own), mounts):
            message = Words(
                f"{quoted(target)} and cdp_dir {quoted(own)} are the same or nested",
                f"{quoted(target)} 与 cdp_dir {quoted(own)} 相同或互相包含",
            )
            report.add(path, message)


def _histories_leave_room(config: NodeConfig, report: Report, resolve: Callable[[bytes], bytes]) -> None:
    """No target may lie in `cdp_dir`: an allowed directory in it would be of no use."""
    if config.backup is None or config.backup.cdp_dir is None:
        return
    for root in config.backup.allow_roots:
        if beneath(resolve(root), resolve(config.backup.cdp_dir)):
            message = Words(
                f"the allowed directory {quoted(root)} lies in it, where no target may be",
                f"allow_roots 的 {quoted(root)} 位于其中，而目标不能位于此处",
            )
            report.add(("backup", "cdp_dir"), message)


def _orphans_apart(placed: PlacedRule, report: Report) -> None:
    """A file moved into a target would be an orphan again; and a target in that directory would contain moved files."""
    to = placed.rule.orphans.to
    for _, _, target in _pairs(placed):
        if to and nested(to, target):
            message = Words(
                f"{quoted(to)} and the target {quoted(target)} are the same or nested",
                f"{quoted(to)} 与目标 {quoted(target)} 相同或互相包含",
            )
            report.add((*placed.path, "orphans", "to"), message)


def _own_directories_outside(
    placed: PlacedRule, config: NodeConfig, report: Report, resolve: Callable[[bytes], bytes]
) -> None:
    """A node that replicates its own state would make a new change with each change that it sends."""
    own = {"node.state_dir": os.fsencode(config.state_dir)}
    if config.work is not None and config.work.cache_dir is not None:
        own["work.cache_dir"] = os.fsencode(config.work.cache_dir)
    histories = config.backup.cdp_dir if config.backup is not None else None
    if histories is not None and not beneath(histories, own["node.state_dir"]):
        own["backup.cdp_dir"] = histories
    for path, source, _ in _pairs(placed):
        for key, directory in own.items():
            inside = beneath(resolve(directory), resolve(source))
            if inside and not any(beneath(directory, excluded) for excluded in placed.excludes):
                message = Words(
                    f"{quoted(source)} holds this node's own {key} {quoted(directory)}",
                    f"{quoted(source)} 包含本节点自己的 {key} {quoted(directory)}",
                )
                report.add((*path, "source"), message, both(f"exclude = [{quoted(directory)}]"))


def _own_files_out_of_reach(
    config: NodeConfig, report: Report, resolve: Callable[[bytes], bytes], mounts: Sequence[Mount]
) -> None:
    """Every work node can write beneath an allowed directory. If the node's own files were there, a work node could use
    a rule to make the node trust others, or to read its keys."""
    if config.backup is None:
        return
    writable = [*config.backup.allow_roots, *(root for peer in config.backup.peers for root in peer.allow_roots)]
    for root in dict.fromkeys(writable):
        for what, path in _own_files(config):
            # Both the target of a symlink and the symlink itself, which could be replaced.
            above, name = os.path.split(path)
            places = {resolve(path), os.path.join(resolve(above), name)}
            if any(reaches(resolve(root), place, mounts) for place in places):
                message = Words(
                    f"{quoted(root)} holds this node's own {what.en} {quoted(path)}: work nodes could write it",
                    f"{quoted(root)} 包含本节点自己的{what.zh} {quoted(path)}：工作机将可写入",
                )
                allowed = Words("a directory for replicas alone", "仅用于存放灾备数据的目录")
                report.add(("backup", "allow_roots"), message, allowed)


def _own_files(config: NodeConfig) -> Iterator[tuple[Words, bytes]]:
    """Files that only this node may read or write."""
    if config.state_dir != Path():
        yield both("node.state_dir"), os.fsencode(config.state_dir)
    if config.work is not None and config.work.cache_dir is not None:
        yield both("work.cache_dir"), os.fsencode(config.work.cache_dir)
    yield Words("config", "配置文件"), os.path.abspath(os.fsencode(config.path))
    codecs = [
        *(config.backup.keys.values() if config.backup else ()),
        *(c for rule in config.rules for c in rule.codecs),
    ]
    for codec in codecs:
        for option, value in codec.options.items():
            if option.endswith("_file") and isinstance(value, str) and value.startswith("/"):
                yield both(option), os.fsencode(value)
