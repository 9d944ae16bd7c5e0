"""One `[[rule]]` from its table to a `Rule`, with all checks that need only that rule."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

import attrs

from i2core.api import DriverKind
from i2core.config import choices, values
from i2core.config.choices import Context
from i2core.config.lines import KeyPath
from i2core.config.model import (
    DAILY,
    DETAILED_DAYS,
    MONTHLY,
    SNAPSHOT_EVERY_S,
    BandwidthWindow,
    Brake,
    CdpRetention,
    ComparePlan,
    DriverChoice,
    First,
    HistoryTerms,
    MirrorOptions,
    OnError,
    OrphanAction,
    Orphans,
    Pair,
    PathMapping,
    Rule,
    ScrubPlan,
    SnapshotPlan,
    Verify,
    WhenFull,
    WhenHistoryFull,
)
from i2core.config.places import beneath, nested
from i2core.config.table import Table
from i2core.config.values import Wrong, quoted, wrong_type
from i2core.config.words import Words

PATHS_EXAMPLE = 'paths = [{ source = "/…", target = "/…" }]'
HOUR_S = 3600.0
LONGEST_S = 3650 * 86400.0
"""The longest lock: a mistyped one cannot be taken back."""
_NOT_OF_A_RULE = Words("the backup node decides this, not the rule", "由灾备机决定，不属于规则")
_OF_BACKUP = Words(
    "[backup] cdp = { lock = … } in the config of the backup node", "灾备机配置文件中的 [backup] cdp = { lock = … }"
)


@attrs.frozen
class PlacedRule:
    """A rule with the key paths of its table and of each of its pairs, for checks against other rules. Wrong values are
    empty."""

    rule: Rule
    path: KeyPath
    pairs: tuple[KeyPath, ...]
    excludes: tuple[bytes, ...]


def read_rule(table: Table, context: Context) -> PlacedRule:
    """The rule with its valid values; mistakes go to the context's report."""
    mapping = table.take("mapping", values.word(PathMapping), PathMapping.ONE_TO_ONE)
    placed = list(_pairs(table, context))
    pairs = tuple(_mapped(table, mapping, placed))
    excludes = _excludes(table, [pair.source for _, pair in placed])
    compress = choices.compression(table, context)
    encrypt = choices.encryption(table.table("encrypt"), context) if "encrypt" in table else None
    table.known.add("encrypt")
    rule = Rule(
        name=table.need("name", values.name, ""),
        backup=table.need("backup", values.name, ""),
        pairs=pairs,
        mapping=mapping,
        filters=tuple(_filters(table, excludes, context)),
        capture=choices.capture(table, context),
        mirror=_mirror(table.table("mirror")),
        codecs=tuple(codec for codec in (compress, encrypt) if codec is not None),
        orphans=_orphans(table.table("orphans")),
        brake=read_brake(table.table("brake")),
        inode_flags=table.take("inode_flags", values.flag, False),
        rescan_s=table.take("rescan", values.duration(1.0, zero=True), HOUR_S),
        autostart=table.take("autostart", values.flag, True),
        rpo_s=table.take("rpo", values.duration(1.0), None),
        compare=_compare(table.table("compare")) if "compare" in table else None,
        scrub=read_scrub(table.table("scrub")) if "scrub" in table else None,
        snapshot=_snapshot(table.table("snapshot")) if "snapshot" in table else None,
        cdp=_cdp(table),
        bandwidth=tuple(read_window(window) for window in table.tables("bandwidth", "[[rule.bandwidth]]")),
        delete_target_with_rule=table.take("delete_target_with_rule", values.flag, False),
    )
    table.known.update(("compare", "scrub", "snapshot"))
    return PlacedRule(rule, table.path, tuple(place for place, _ in placed), tuple(excludes))


# ------------------------------------------------------------------------------------------------ paths and filters


def _pairs(table: Table, context: Context) -> Iterator[tuple[KeyPath, Pair]]:
    entries = table.tables("paths", PATHS_EXAMPLE)
    if not entries and not table.data.get("paths"):
        table.wrong("paths", Words("is missing: a rule needs at least one pair", "缺少：规则至少需要一对路径"))
    seen: list[bytes] = []
    for entry in entries:
        source = entry.need("source", values.absolute_path, b"")
        target = entry.need("target", values.directory_below_root, b"")
        if source:
            # One watch for each directory: with nested roots, a capture could not tell to which root a change belongs.
            for other in seen:
                if nested(source, other):
                    message = Words(
                        f"{quoted(source)} and {quoted(other)} are the same or nested; use two rules",
                        f"{quoted(source)} 与 {quoted(other)} 相同或互相包含；请分成两条规则",
                    )
                    entry.wrong("source", message)
            seen.append(source)
            if context.look_at_disk:
                with context.report.at((*entry.path, "source")):
                    _check_source(source)
        yield entry.path, Pair(source=source, target=target)


def _check_source(source: bytes) -> None:
    name = quoted(source)
    try:
        mode = os.stat(source).st_mode
    except FileNotFoundError:
        raise Wrong(Words(f"{name} does not exist", f"{name} 不存在")) from None
    except OSError as error:
        raise Wrong(Words(f"{name} cannot be used: {error.strerror}", f"{name} 无法使用：{error.strerror}")) from None
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise Wrong(Words(f"{name} is neither a directory nor a regular file", f"{name} 既不是目录也不是普通文件"))


def _mapped(table: Table, mapping: PathMapping, placed: list[tuple[KeyPath, Pair]]) -> Iterator[Pair]:
    if mapping is PathMapping.ONE_TO_ONE:
        yield from (pair for _, pair in placed)
        return
    targets = {pair.target for _, pair in placed if pair.target}
    if len(targets) > 1:
        table.wrong(
            "paths",
            Words("many-to-one needs a single target; several are given", "多对一只能有一个目标，此处有多个"),
            Words("the same target for each source", "每个源写同一个目标"),
        )
    for _, pair in placed:
        whole = b"/".join(part for part in (pair.target, pair.source.strip(b"/")) if part)
        yield attrs.evolve(pair, target=whole if pair.target and pair.source else b"")


def _excludes(table: Table, sources: list[bytes]) -> list[bytes]:
    found = []
    for place, path in table.items("exclude", values.absolute_path):
        with table.report.at(place):
            if all(sources) and not any(beneath(path, source) and path != source for source in sources):
                raise Wrong(
                    Words(f"{quoted(path)} is not beneath a source", f"{quoted(path)} 不在任何源目录之下"),
                    Words("paths beneath a source of this rule", "本规则源目录之下的路径"),
                )
            found.append(path)
    return found


def _filters(table: Table, excludes: list[bytes], context: Context) -> Iterator[DriverChoice]:
    types = table.table("file_types")
    include = [text for _, text in types.items("include", values.pattern)]
    exclude = [text for _, text in types.items("exclude", values.pattern)]
    if "include" in types and "exclude" in types:
        types.wrong(
            "",
            Words("include and exclude cannot be combined", "include 和 exclude 不能同时使用"),
            Words("one of them", "其中之一"),
        )
    asked: dict[str, Any] = {
        "exclude": [values.written(path) for path in excludes],
        "include_types": include,
        "exclude_types": exclude,
    }
    if options := {key: value for key, value in asked.items() if value}:
        glob = DriverChoice(name="glob", options=options)
        choices.check_choice(glob, DriverKind.FILTER, (*table.path, "exclude" if excludes else "file_types"), context)
        yield glob
    yield from choices.drivers(table, "filters", DriverKind.FILTER, context)


# ------------------------------------------------------------------------------------------------ options


def _mirror(table: Table) -> MirrorOptions:
    return MirrorOptions(
        verify=table.take("verify", values.word(Verify), Verify.TIME),
        on_error=table.take("on_error", values.word(OnError), OnError.LOG),
        first=table.take("first", values.word(First), First.AUTO),
    )


def _orphans(table: Table) -> Orphans:
    action = table.take("action", values.word(OrphanAction), OrphanAction.KEEP)
    archive = table.take("archive", values.flag, False)
    to = table.take("to", values.directory_below_root, None)
    moves = action is OrphanAction.MOVE or archive
    if moves and "to" not in table:
        table.wrong(
            "to",
            Words('is missing: action "move" and archive need a directory', '缺少：action "move" 和 archive 需要目录'),
        )
    if "to" in table and not moves:
        table.wrong(
            "to",
            Words(
                'has no effect without action "move" or archive = true', '没有 action "move" 或 archive = true 时无效'
            ),
        )
    return Orphans(action=action, to=to, archive=archive)


def read_brake(table: Table) -> Brake:
    """`brake` of a rule, or of `[backup]`."""
    return Brake(
        share=table.take("share", values.share, 0.5),
        window_s=table.take("window", values.duration(0.001), 60.0),
        least=table.take("least", values.whole(1), 1000),
    )


def _compare(table: Table) -> ComparePlan:
    return ComparePlan(
        every_s=table.need("every", values.duration(HOUR_S), HOUR_S),
        start=table.take("start", values.moment, None),
        strict=table.take("strict", values.flag, False),
        mend=table.take("mend", values.flag, False),
    )


def read_scrub(table: Table) -> ScrubPlan:
    """`scrub` of a rule, or of `[backup]`."""
    return ScrubPlan(
        within_s=table.take("within", values.duration(HOUR_S), ScrubPlan().within_s),
        rate=table.take("rate", values.size(1000), ScrubPlan().rate),
    )


def _snapshot(table: Table) -> SnapshotPlan:
    planned = any(key in table for key in ("start", "keep", "when_full"))
    read = values.duration(SNAPSHOT_EVERY_S)
    return SnapshotPlan(
        store=table.take("store", values.name, "auto"),
        every_s=table.need("every", read, HOUR_S) if planned else table.take("every", read, None),
        start=table.take("start", values.moment, None),
        keep=table.take("keep", values.whole(1, 64), 24),
        when_full=table.take("when_full", values.word(WhenFull), WhenFull.ROTATE),
    )


def _cdp(rule: Table) -> CdpRetention | None:
    if not isinstance(rule.data.get("cdp"), dict):
        return rule.take("cdp", _no_history, None)
    table = rule.table("cdp")
    for key in ("lock", "grace", "when_full"):
        if key in table:
            table.known.add(key)
            table.wrong(key, _NOT_OF_A_RULE, _OF_BACKUP)
    return CdpRetention(
        detailed_days=table.take("detailed_days", values.whole(*DETAILED_DAYS), 7),
        daily=table.take("daily", values.whole(*DAILY), 30),
        monthly=table.take("monthly", values.whole(*MONTHLY), 12),
    )


def _no_history(value: object) -> None:
    if value != "off":
        raise wrong_type(value, Words('a table, or "off"', '表，或 "off"'))


def read_history_terms(table: Table) -> HistoryTerms:
    """`cdp` of `[backup]`."""
    usual = HistoryTerms()
    age = values.duration(1.0, zero=True, most_s=LONGEST_S)
    return HistoryTerms(
        lock_s=table.take("lock", age, usual.lock_s),
        grace_s=table.take("grace", age, usual.grace_s),
        when_full=table.take("when_full", values.word(WhenHistoryFull), usual.when_full),
    )


def read_window(table: Table) -> BandwidthWindow:
    """One `[[rule.bandwidth]]` or `[[work.bandwidth]]`, with its valid values."""
    days = [day for _, day in table.items("days", values.day)] if "days" in table else range(7)
    table.known.add("days")
    if table.data.get("days") == []:
        table.wrong("days", Words("must not be empty", "不能为空"))
    first, end = table.take("hours", values.hours, (0, 24 * 60))
    limit = table.need("limit", values.rate, 0)
    return BandwidthWindow(days=frozenset(days), first_minute=first, end_minute=end, limit_bps=limit)
