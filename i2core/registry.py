"""The plugins that are installed, and the drivers they offer.

One broken plugin must never stop the others. So each is imported, registered and queried separately, and each failure
becomes a `PluginProblem`, which is shown by ``i2 plugins list`` and in the error of a rule that needs the plugin. If
two plugins offer the same name, neither gets it: choosing one silently could change how a rule treats its data.

importlib.metadata lists installed plugins without importing them, stevedore imports them, pluggy binds and checks the
hooks. Loading takes about 50 ms, so only commands that need drivers do it.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import pluggy
from stevedore.named import NamedExtensionManager

from i2core.api import API_VERSION, Code, DriverKind, DriverSpec, UsageError
from i2core.api.hooks import PROJECT, Hooks
from i2core.config.words import bilingual

GROUP = "i2core.plugins"
"""The entry-point group of plugins."""

HOOK_KINDS: Mapping[str, frozenset[DriverKind]] = MappingProxyType(
    {
        "i2_captures": frozenset({DriverKind.CAPTURE}),
        "i2_filters": frozenset({DriverKind.FILTER}),
        "i2_codecs": frozenset({DriverKind.CODEC}),
        "i2_transports": frozenset({DriverKind.CLIENT_TRANSPORT, DriverKind.SERVER_TRANSPORT}),
        "i2_sinks": frozenset({DriverKind.SINK}),
        "i2_journals": frozenset({DriverKind.JOURNAL}),
        "i2_snapshot_stores": frozenset({DriverKind.SNAPSHOT_STORE}),
    }
)
"""The kinds of drivers that each hook may return."""


@attrs.frozen
class PluginProblem:
    """Why a plugin, or one of its drivers, cannot be used."""

    plugin: str
    distribution: str
    """Empty when no plugin of that name is installed."""
    version: str
    what: str
    """Cause, for a person."""
    driver: str = ""
    """The driver that cannot be used; empty if the whole plugin cannot be used."""

    def __str__(self) -> str:
        origin = f" ({self.distribution} {self.version})" if self.distribution else ""
        driver = f", driver {self.driver}" if self.driver else ""
        return f"plugin {self.plugin}{origin}{driver}: {self.what}"


@attrs.frozen
class PluginEntry:
    """A plugin that was loaded, with its drivers that can be used here."""

    name: str
    distribution: str
    version: str
    drivers: tuple[DriverSpec, ...]


@attrs.frozen
class Registry:
    """The drivers of the enabled plugins. Created by `load`, never changed after."""

    plugins: tuple[PluginEntry, ...]
    """By name."""
    problems: tuple[PluginProblem, ...]
    _drivers: Mapping[DriverKind, Mapping[str, DriverSpec]]

    @classmethod
    def load(cls, enabled: Collection[str] | None = None) -> Registry:
        """Imports the plugins with these entry-point names, or all that are installed.

        A broken plugin does not raise: see `problems`.
        """
        problems: list[PluginProblem] = []
        loaded = list(_usable(enabled, problems.append))
        loaded = list(_without_rivals(loaded, problems.append))
        drivers: dict[DriverKind, dict[str, DriverSpec]] = {kind: {} for kind in DriverKind}
        for entry in loaded:
            for spec in entry.drivers:
                drivers[spec.kind][spec.name] = spec
        ordered = {kind: MappingProxyType(dict(sorted(named.items()))) for kind, named in drivers.items()}
        return cls(tuple(loaded), tuple(problems), MappingProxyType(ordered))

    def drivers(self, kind: DriverKind) -> Mapping[str, DriverSpec]:
        """All usable drivers of this kind by name, in alphabetical order."""
        return self._drivers[kind]

    def names(self, kind: DriverKind) -> tuple[str, ...]:
        """Names of all usable drivers of this kind, in alphabetical order."""
        return tuple(self._drivers[kind])

    def driver(self, kind: DriverKind, name: str) -> DriverSpec:
        """The driver with this name in a config.

        Raises:
            UsageError: there is none; the message lists the installed drivers and all problems with that name.
        """
        if name in self._drivers[kind]:
            return self._drivers[kind][name]
        word = kind.value.replace("_", " ")
        # First the problems of this name, then the plugins that failed as a whole: one of them may offer the driver.
        causes = [str(problem) for problem in self.problems if name in (problem.plugin, problem.driver)]
        silent = [str(problem) for problem in self.problems if not problem.driver and str(problem) not in causes]
        installed = ", ".join(self.names(kind)) or "none"
        raise UsageError(
            bilingual(
                "; ".join([f"no {word} of this name can be used; installed: {installed}", *causes, *silent]),
                "；".join([f"没有可用的同名驱动（{word}）；已安装：{installed}", *causes, *silent]),
            ),
            code=Code.PLUGIN_BROKEN if causes else Code.USAGE,
            obj=f"{word} {name}",
            next_step=bilingual("see i2 plugins list", "参见 i2 plugins list")
            if causes
            else bilingual("correct the name or install its plugin", "请更正名称，或安装对应插件"),
        )


class _OneEntryPoint(NamedExtensionManager[Any]):
    """stevedore's import of a single entry point that importlib.metadata found.

    stevedore's own list comes from a cache on disk that does not record the distribution of an entry point and
    merges equal ones, so that a duplicate could not be detected. Each plugin is imported by its own manager, because
    an AssertionError at a plugin's import passes through stevedore and would end the loading of the rest.
    """

    def __init__(self, entry_point: importlib.metadata.EntryPoint, failed: Callable[[BaseException], None]) -> None:
        self._entry_point = entry_point
        super().__init__(
            GROUP,
            [entry_point.name],
            on_load_failure_callback=lambda _manager, _entry_point, error: failed(error),
            on_missing_entrypoints_callback=None,  # missing ones were reported before
        )

    def list_entry_points(self) -> list[importlib.metadata.EntryPoint]:
        return [self._entry_point]


@attrs.frozen
class _Offer:
    """A plugin name and the distribution that offers it."""

    entry_point: importlib.metadata.EntryPoint
    distribution: str
    version: str

    def problem(self, what: str, driver: str = "") -> PluginProblem:
        return PluginProblem(self.entry_point.name, self.distribution, self.version, what, driver)


class _Unfit(Exception):
    """A plugin breaks the contract of its hooks; the text describes how."""


def _installed(report: Callable[[PluginProblem], None]) -> dict[str, list[_Offer]]:
    """The offers by plugin name. Reads each distribution separately: one unreadable entry_points.txt would make
    `importlib.metadata.entry_points` fail for all. Of two copies of a distribution the first on the path counts."""
    offers: defaultdict[str, list[_Offer]] = defaultdict(list)
    seen: set[str] = set()
    for dist in importlib.metadata.distributions():
        name = version = "unknown"
        try:
            if GROUP not in (dist.read_text("entry_points.txt") or ""):
                continue
            metadata = dist.metadata  # parsed at each access, also by `dist.name` and `dist.version`
            name, version = str(metadata["Name"]), str(metadata["Version"])
            entry_points = list(dist.entry_points.select(group=GROUP))
        except Exception as error:
            report(PluginProblem(name, name, version, f"metadata cannot be read: {_words(error)}"))
            continue
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key not in seen:
            seen.add(key)
            for entry_point in entry_points:
                offers[entry_point.name].append(_Offer(entry_point, name, version))
    return offers


def _usable(enabled: Collection[str] | None, report: Callable[[PluginProblem], None]) -> Iterator[PluginEntry]:
    """Each enabled plugin that loads and whose hooks work, with its drivers that fit this host."""
    offers = _installed(report)
    for name in sorted(offers if enabled is None else set(enabled)):
        match offers.get(name, []):
            case []:
                report(PluginProblem(name, "", "", "not installed"))
            case [offer]:
                try:
                    specs = _ask(_import(offer.entry_point))
                except _Unfit as error:
                    report(offer.problem(str(error)))
                else:
                    fitting = tuple(_fitting(specs, offer, report))
                    yield PluginEntry(name, offer.distribution, offer.version, fitting)
            case rivals:
                for offer in rivals:
                    others = ", ".join(other.distribution for other in rivals if other is not offer)
                    report(offer.problem(f"{others} offers a plugin of the same name: uninstall one of them"))


def _import(entry_point: importlib.metadata.EntryPoint) -> object:
    """The plugin's module.

    Raises:
        _Unfit: it cannot be imported.
    """
    errors: list[BaseException] = []
    try:
        found = _OneEntryPoint(entry_point, errors.append).extensions
    except (AssertionError, SystemExit) as error:  # stevedore does not catch these two
        raise _Unfit(f"cannot be imported: {_words(error)}") from error
    if errors:
        raise _Unfit(f"cannot be imported: {_words(errors[0])}") from errors[0]
    plugin: object = found[0].plugin
    return plugin


def _ask(plugin: object) -> list[DriverSpec]:
    """All drivers that the plugin's hooks return. Each plugin has its own pluggy manager, so that an error stays its
    own.

    Raises:
        _Unfit: a hook is unknown, has a wrong signature, raises, or returns a wrong value.
    """
    bound = pluggy.PluginManager(PROJECT)
    bound.add_hookspecs(Hooks)
    try:
        bound.register(plugin)
        bound.check_pending()
    except pluggy.PluginValidationError as error:
        raise _Unfit(f"hooks do not fit API version {API_VERSION}: {_words(error)}") from error
    specs: list[DriverSpec] = []
    for caller in bound.get_hookcallers(plugin) or ():
        try:
            answers = [spec for answer in caller() for spec in answer]
        except (Exception, SystemExit) as error:
            raise _Unfit(f"hook {caller.name} failed: {_words(error)}") from error
        for answer in answers:
            _check_answer(caller.name, answer)
        specs += answers
    twice = [(kind, name) for (kind, name), count in Counter((s.kind, s.name) for s in specs).items() if count > 1]
    for kind, name in twice:
        raise _Unfit(f"offers the {kind.value} {name} twice")
    return specs


def _check_answer(hook: str, answer: object) -> None:
    if not isinstance(answer, DriverSpec):
        raise _Unfit(f"hook {hook} returned {type(answer).__name__} instead of DriverSpec")
    if answer.kind not in HOOK_KINDS[hook]:
        raise _Unfit(f"hook {hook} returned a driver of another kind: {answer.kind!r} {answer.name}")
    if not callable(answer.open) or not attrs.has(answer.config):
        raise _Unfit(f"driver {answer.name} lacks an open function or an attrs class as its config")


def _fitting(
    specs: Iterable[DriverSpec], offer: _Offer, report: Callable[[PluginProblem], None]
) -> Iterator[DriverSpec]:
    """The drivers made for this API version and this platform."""
    for spec in specs:
        if spec.api != API_VERSION:
            what = f"made for API version {spec.api}, this is {API_VERSION}: install a release that fits"
            report(offer.problem(what, spec.name))
        elif sys.platform not in spec.platforms:
            report(offer.problem(f"works on {', '.join(spec.platforms)}, this is {sys.platform}", spec.name))
        else:
            yield spec


def _without_rivals(entries: Iterable[PluginEntry], report: Callable[[PluginProblem], None]) -> Iterator[PluginEntry]:
    """The plugins without the drivers whose kind and name another plugin offers too."""
    entries = list(entries)
    offered: defaultdict[tuple[DriverKind, str], list[PluginEntry]] = defaultdict(list)
    for entry in entries:
        for spec in entry.drivers:
            offered[spec.kind, spec.name].append(entry)
    for entry in entries:
        kept = []
        for spec in entry.drivers:
            others = [other.name for other in offered[spec.kind, spec.name] if other is not entry]
            if not others:
                kept.append(spec)
                continue
            what = f"plugin {', '.join(others)} offers the same {spec.kind.value}: enable or install only one"
            report(PluginProblem(entry.name, entry.distribution, entry.version, what, spec.name))
        yield attrs.evolve(entry, drivers=tuple(kept))


def _words(error: BaseException) -> str:
    """The error in one line, without pluggy's dump of objects."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
