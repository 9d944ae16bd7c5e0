"""Opens the resources of a run of the work side: its trees, filters, catalog and capture."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType

import attrs
import trio

from i2core.api import Capture, CaptureContext, Code, FilterContext, I2Error, Place, StopRule
from i2core.config.model import Rule, Verify
from i2core.config.options import structure_options
from i2core.config.words import Bilingual, bilingual
from i2core.drivers.select import Drivers, choose_capture, open_filters
from i2core.posix.errnos import PASSING
from i2core.posix.tree import LocalTree
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.life.report import Line, Say, code_in
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.source import Source
from i2core.rule.work.known_roots import KnownRoots, Looked, refuse_unknown
from i2core.rule.work.resume import Opened, Resume, Run, Start, drop_catalog, open_catalog, selection
from i2core.rule.work.work_rule import WorkRule

ROOTS = ".roots"
"""Suffix of the file of the mirrored directories' identities, beside the catalog."""


@attrs.frozen
class Directories:
    """A source directory and its target; `only` limits the pair to that name in it."""

    source: bytes
    target: bytes
    only: bytes | None = None


def directories(rule: Rule) -> Sequence[Directories]:
    """The rule's pairs as directories; a pair of single files is its directory, limited to that name."""
    found = []
    for pair in rule.pairs:
        if os.path.isdir(pair.source) or not os.path.lexists(pair.source):
            found.append(Directories(pair.source, pair.target))
        else:
            above, name = os.path.split(pair.source)
            found.append(Directories(above, os.path.dirname(pair.target), name))
    return found


@asynccontextmanager
async def open_source(
    work: WorkRule, drivers: Drivers, status: RuleStatus, state_dir: Path | None, say: Say, *, once: bool
) -> AsyncIterator[tuple[Source, Opened]]:
    """The rule's trees, filters and catalog, and what the run may rely on; without `state_dir` the catalog is
    temporary. A person who asked for a compare means these directories, whatever was mirrored before.

    Raises:
        StopRule: a source directory cannot be opened or may not be the one that was mirrored, or another program has
            the catalog open.
        OSError: one that passes: the caller begins again.
    """
    rule = work.rule
    path = None if state_dir is None else catalog_path(rule, state_dir)
    known_roots = KnownRoots(None if path is None else path.with_suffix(ROOTS))
    async with contextlib.AsyncExitStack() as stack:
        trees = open_trees(rule, stack)
        looked = await trio.to_thread.run_sync(partial(known_roots.look, trees, accept=work.compare))
        context = FilterContext(roots=tuple(tree.path for tree in trees))
        filters = await stack.enter_async_context(open_filters(drivers, rule.filters, context))
        run = _run_of(work, same_roots=looked.same, once=once)
        opened = await trio.to_thread.run_sync(_open_catalog, path, run)
        stack.push(partial(_close, opened.catalog, path))
        _judge(work, opened, looked, trees, partial(say, rule.name), path, once=once)
        yield (
            Source(
                rule=rule.name,
                trees=trees,
                filter=filters,
                catalog=opened.catalog,
                key=_key(rule),
                keep_roots=partial(known_roots.keep, trees),
                status=status,
                on_error=rule.mirror.on_error,
                orphans=rule.orphans.action,
                holds_back=work.holds_back,
                say=say,
            ),
            opened,
        )


def _judge(
    work: WorkRule,
    opened: Opened,
    looked: Looked,
    trees: Sequence[LocalTree],
    say: Callable[[Code | None, str], None],
    path: Path | None,
    *,
    once: bool,
) -> None:
    """Says what was found, and forgets what other directories have made void.

    Raises:
        StopRule: these may not be the directories that were mirrored.
    """
    for line in _damages(opened, looked, path):
        say(Code.CATALOG_DAMAGED, line)
    if not work.compare and not looked.known and (looked.damage or opened.catalog.memory.now.mirrored):
        refuse_unknown(trees)
    if not looked.same:
        _forget_the_mirror(opened.catalog)
    for code, line in _findings(opened, looked.others, once=once):
        say(code, line)


def open_trees(rule: Rule, stack: contextlib.AsyncExitStack) -> list[LocalTree]:
    """The rule's source directories; `stack` closes them.

    Raises:
        StopRule: one cannot be opened (3607).
        OSError: one that passes.
    """
    trees = []
    for pair in directories(rule):
        try:
            tree = LocalTree(pair.source, pair.only, flags=rule.inode_flags)
        except OSError as error:
            if error.errno in PASSING:
                raise
            shown = os.fsdecode(pair.source)
            raise StopRule(error.strerror or "", code=Code.SOURCE_GONE, obj=shown) from error
        stack.callback(tree.close)
        trees.append(tree)
    return trees


def _run_of(work: WorkRule, *, same_roots: bool, once: bool) -> Run:
    return Run(
        selection=selection(work.rule, work.epoch),
        same_roots=same_roots,
        once=once,
        compare=work.compare,
        strict=work.rule.mirror.verify is Verify.STRICT,
    )


def _damages(opened: Opened, looked: Looked, path: Path | None) -> Iterator[str]:
    """For the logbook: which files about the mirror are damaged."""
    if opened.damage:
        yield damaged(str(path), opened.damage)
    if looked.damage and path is not None:
        shown = str(path.with_suffix(ROOTS))
        text = f"{shown}: the file of the mirrored directories' identities is damaged ({looked.damage})"
        step = bilingual(
            "a start with --compare writes it again; check the disk", "加 --compare 启动即重新写入；请检查磁盘"
        )
        yield Line(text, obj=shown, cause=looked.damage, next_step=step)


def _findings(opened: Opened, others: Iterable[LocalTree], *, once: bool) -> Iterator[tuple[Code | None, str]]:
    """What the logbook has of the opening: sources that are other directories now, and how the run starts."""
    for tree in others:
        yield Code.SOURCE_EXCHANGED, _exchanged(tree)
    if not once:
        yield None, _how_it_starts(opened.start)


def _open_catalog(path: Path | None, run: Run) -> Opened:
    if path is not None:
        os.makedirs(path.parent, 0o700, exist_ok=True)
    return open_catalog(path, run)


def _forget_the_mirror(catalog: Catalog) -> None:
    """Before anything is kept of other roots: a crash in between must not let them pass for those that were
    mirrored."""
    catalog.memory.note(mirrored=False)
    catalog.commit()


def _how_it_starts(start: Start) -> Bilingual:
    why = start.reason
    if isinstance(start, Resume):
        return bilingual(f"resumes where the last run ended: {why.en}", f"从上次运行结束处继续：{why.zh}")
    return bilingual(f"everything is compared: {why.en}", f"将比较全部内容：{why.zh}")


def _close(
    catalog: Catalog,
    path: Path | None,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
) -> None:
    """The way out of the run tells whether its end was orderly: it was told to stop, or stops for a reason of its own
    kind. Anything else has left it in the middle of something. An error that nobody has foreseen may come from what the
    catalog holds, and would come again at each start: then it goes."""
    foreseen = (I2Error, OSError, sqlite3.Error)
    catalog.close(clean=error is None or isinstance(error, (trio.Cancelled, I2Error)))
    if path is not None and isinstance(error, Exception) and not isinstance(error, foreseen):
        drop_catalog(path)


def _exchanged(tree: LocalTree) -> Line:
    shown = os.fsdecode(tree.path)
    cause = "another directory than the one that was mirrored; everything is compared"
    return Line(f"{shown}: {cause}", obj=shown, cause=cause)


def catalog_path(rule: Rule, state_dir: Path) -> Path:
    """Where the rule's catalog is."""
    return state_dir / f"{_key(rule)}.catalog"


def damaged(shown: str, cause: str) -> Line:
    """For the logbook: the catalog at `shown` is dropped."""
    text = f"{shown}: the catalog is damaged ({cause}); it is dropped, and everything is compared"
    return Line(text, obj=shown, cause=cause)


def _key(rule: Rule) -> str:
    """Names the rule's files on this node: of another name or other pairs, it is another rule."""
    pairs = [pair.source + b"\0" + pair.target for pair in rule.pairs]
    return hashlib.sha256(b"\0".join([rule.name.encode(), *pairs])).hexdigest()[:32]


@asynccontextmanager
async def open_capture(rule: Rule, drivers: Drivers, source: Source) -> AsyncIterator[Capture]:
    """The capture that the rule names, or the best that works for its trees.

    Raises:
        UsageError: none does.
    """

    def wants_dir(root: int, path: bytes) -> bool:
        return source.wants(Place(root, path), True)

    context = CaptureContext(
        roots=tuple(tree.path for tree in source.trees),
        wants_dir=wants_dir,
        say=_line_sayer(source),
    )
    spec = choose_capture(drivers, rule.capture.name, context)
    source.status.capture = spec.name
    options = rule.capture.options if rule.capture.name == spec.name else {}
    async with spec.open(structure_options(spec, options), context) as capture:
        yield capture


def _line_sayer(source: Source) -> Callable[[str], None]:
    def line(text: str) -> None:
        source.say(source.rule, code_in(text), text)

    return line
