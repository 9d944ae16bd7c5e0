"""Chooses and opens drivers: the filters and codecs that a rule names, and its capture; for ``"auto"`` the best capture
whose probe succeeds here."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

from i2core.api import (
    CaptureContext,
    Code,
    CodecContext,
    DriverKind,
    DriverSpec,
    FilterContext,
    Probe,
    UsageError,
)
from i2core.config.model import DriverChoice, Rule
from i2core.config.options import structure_options
from i2core.drivers.chain import CodecChain, FilterChain


class Drivers(Protocol):
    """The part of the registry that is needed here."""

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        """The driver of that name; `UsageError` when there is none."""

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        """All drivers of that kind."""


def check_drivers(rule: Rule, registry: Drivers) -> None:
    """Checks that every driver of a rule is installed and accepts its options, before anything is changed.

    Raises:
        UsageError: one is missing or refuses its options.
    """
    chosen = [(DriverKind.FILTER, choice) for choice in rule.filters]
    chosen += [(DriverKind.CODEC, choice) for choice in rule.codecs]
    if rule.capture.name != "auto":
        chosen.append((DriverKind.CAPTURE, rule.capture))
    for kind, choice in chosen:
        structure_options(registry.driver(kind, choice.name), choice.options)


def probe(spec: DriverSpec, context: CaptureContext) -> Probe:
    """Whether a capture works for these roots here, with the reason."""
    if not sys.platform.startswith(spec.platforms):
        return Probe(False, f"needs {', '.join(spec.platforms)}")
    return spec.probe(context) if spec.probe is not None else Probe(True, "needs nothing")


def choose_capture(registry: Drivers, name: str, context: CaptureContext) -> DriverSpec:
    """The capture to open; logs the choice and the reason.

    Raises:
        UsageError: the requested capture, or every one, does not work here.
    """
    if name != "auto":
        spec = registry.driver(DriverKind.CAPTURE, name)
        found = probe(spec, context)
        if not found.works:
            raise UsageError(found.why, code=Code.CAPTURE_UNFIT, obj=f"capture {name}", next_step='or "auto"')
        context.say(f"capture {name}: {found.why}")
        return spec
    refused: list[str] = []
    for spec in sorted(registry.drivers(DriverKind.CAPTURE).values(), key=lambda spec: -spec.rank):
        found = probe(spec, context)
        if found.works:
            context.say("; ".join([f"capture {spec.name}: {found.why}", *refused]))
            return spec
        refused.append(f"not {spec.name}: {found.why}")
    raise UsageError(
        "; ".join(refused) or "no capture is installed",
        code=Code.CAPTURE_UNFIT,
        obj="capture auto",
        next_step="see i2 node doctor",
    )


@asynccontextmanager
async def open_codecs(drivers: Drivers, choices: Sequence[DriverChoice], rule: str) -> AsyncIterator[CodecChain]:
    """The chain of the chosen codecs, in encode order."""
    async with _opened(drivers, DriverKind.CODEC, choices, CodecContext(rule=rule)) as codecs:
        yield CodecChain(codecs)


@asynccontextmanager
async def open_filters(
    drivers: Drivers, choices: Sequence[DriverChoice], context: FilterContext
) -> AsyncIterator[FilterChain]:
    """The chain of the chosen filters."""
    async with _opened(drivers, DriverKind.FILTER, choices, context) as filters:
        yield FilterChain(filters)


@asynccontextmanager
async def _opened(
    drivers: Drivers, kind: DriverKind, choices: Sequence[DriverChoice], context: object
) -> AsyncIterator[list[Any]]:
    async with AsyncExitStack() as stack:
        opened = []
        for choice in choices:
            spec = drivers.driver(kind, choice.name)
            config = structure_options(spec, choice.options)
            opened.append(await stack.enter_async_context(spec.open(config, context)))
        yield opened
