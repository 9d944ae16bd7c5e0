"""Opens what a run of the work side works with: its trees, filters and catalog, and its capture."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from i2core.api import Capture, CaptureContext, Code, FilterContext, Place, StopRule
from i2core.config.model import Rule
from i2core.config.options import structure_options
from i2core.pipeline.select import Drivers, choose_capture, open_filters
from i2core.pipeline.tree import SourceTree
from i2core.rule.line import Say, code_in
from i2core.rule.reading.source import Source
from i2core.rule.status import RuleStatus
from i2core.rule.work.resume import open_catalog


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
    rule: Rule, drivers: Drivers, status: RuleStatus, state_dir: Path | None, say: Say
) -> AsyncIterator[Source]:
    """The rule's trees, filters and catalog; without `state_dir` the catalog is temporary.

    Raises:
        StopRule: a source directory cannot be opened, or another program has the catalog open.
    """
    async with contextlib.AsyncExitStack() as stack:
        trees = []
        for pair in directories(rule):
            try:
                tree = SourceTree(pair.source, pair.only)
            except OSError as error:
                shown = os.fsdecode(pair.source)
                raise StopRule(error.strerror or "", code=Code.SOURCE_GONE, obj=shown) from error
            stack.callback(tree.close)
            trees.append(tree)
        context = FilterContext(roots=tuple(tree.path for tree in trees))
        filters = await stack.enter_async_context(open_filters(drivers, rule.filters, context))
        key, path = _key(rule), None
        if state_dir is not None:
            await trio.to_thread.run_sync(partial(os.makedirs, state_dir, 0o700, exist_ok=True))
            path = state_dir / f"{key}.catalog"
        catalog, clean = open_catalog(path)
        stack.callback(catalog.close)
        yield Source(
            rule=rule.name,
            trees=trees,
            filter=filters,
            catalog=catalog,
            clean=clean,
            key=key,
            status=status,
            on_error=rule.mirror.on_error,
            say=say,
        )


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
