"""``i2 plugins``: lists the installed plugins and their problems, and checks drivers against their contracts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import attrs
import click

from i2core.cli.output import document, json_option, printable, say, table, wants_json

if TYPE_CHECKING:
    from i2core.api import DriverSpec
    from i2core.registry import PluginEntry, Registry


@click.group()
def plugins() -> None:
    """List the installed plugins; check a plugin against its contract."""


@plugins.command(name="list", short_help="Show the installed plugins and their drivers.")
@json_option
def list_() -> None:
    """Show the installed plugins, their drivers, and what cannot be used."""
    from i2core.registry import Registry

    registry = Registry.load()
    if wants_json():
        document(_registry_document(registry))
        return
    rows = [
        (spec.kind.value.replace("_", " "), spec.name, spec.summary, entry.name, _release(entry))
        for entry in registry.plugins
        for spec in entry.drivers
    ]
    table(("KIND", "DRIVER", "SUMMARY", "PLUGIN", "FROM"), sorted(rows))
    for problem in registry.problems:
        say(printable(str(problem)))


@plugins.command()
@click.argument("name")
@click.option(
    "--option",
    "-o",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option of the driver, as in a config file; default: the plugin's own example.",
)
@json_option
@click.pass_context
def check(context: click.Context, name: str, options: tuple[str, ...]) -> None:
    """Check each driver of plugin NAME against the contract of its kind.

    NAME is the name of the plugin, of its distribution, or of one of its drivers. Exit code 1 when a driver breaks
    its contract, or when the plugin cannot be used.
    """
    from i2core.registry import Registry

    given = _options(options)
    registry = Registry.load()
    name = _plugin_called(registry, name)
    results = [_check(spec, given) for entry in registry.plugins if entry.name == name for spec in entry.drivers]
    problems = [problem for problem in registry.problems if problem.plugin == name]
    if not results and not problems:
        _no_drivers(registry, name)
    good = not problems and all(result.good for result in results)
    if wants_json():
        document(
            {
                "plugin": name,
                "good": good,
                "drivers": [attrs.asdict(result) for result in results],
                "problems": [attrs.asdict(problem) for problem in problems],
            }
        )
    else:
        for result in results:
            click.echo(f"{result.kind} {result.name}: {printable(result.cause) or 'good'}")
        for problem in problems:
            click.echo(printable(str(problem)))
    context.exit(0 if good else 1)


def _plugin_called(registry: Registry, name: str) -> str:
    """The plugin of that name, else the one with a distribution or driver of that name; `name` itself when there is
    none."""
    if any(known.name == name for known in registry.plugins) or any(p.plugin == name for p in registry.problems):
        return name
    named = {name, f"i2-{name.replace('_', '-')}"}
    for entry in registry.plugins:
        if entry.distribution in named or any(spec.name == name for spec in entry.drivers):
            return entry.name
    return next((problem.plugin for problem in registry.problems if problem.distribution in named), name)


@attrs.frozen
class Checked:
    """The result for one driver; `cause` is empty when the driver passed."""

    kind: str
    name: str
    good: bool
    cause: str


def _check(spec: DriverSpec, options: Mapping[str, Any] | None) -> Checked:
    """Runs the check of the driver's kind. Every failure counts against the driver, except wrong options that the user
    gave.

    Raises:
        UsageError: the given options do not fit the driver.
    """
    import trio

    from i2core.api import UsageError
    from i2core.testing.checks import CHECKS

    cause = ""
    try:
        trio.run(CHECKS[spec.kind], spec, options)
    except Exception as error:
        if options and isinstance(error, UsageError):
            raise
        cause = _words(error)
    return Checked(spec.kind.value, spec.name, not cause, cause)


def _words(error: BaseException) -> str:
    """The first cause as one text: the message of a failed contract check, else the error with its class."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error)
    return text if isinstance(error, AssertionError) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _options(given: tuple[str, ...]) -> dict[str, Any] | None:
    """``KEY=VALUE`` pairs as a config file would give them; a value that is not TOML is taken as text."""
    options: dict[str, Any] = {}
    for pair in given:
        key, separator, value = pair.partition("=")
        if not key or not separator:
            raise click.UsageError(f"{pair!r} is not KEY=VALUE")
        try:
            options[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            options[key] = value
    return options or None


def _no_drivers(registry: Registry, name: str) -> NoReturn:
    """Reports why there is nothing to check.

    Raises:
        UsageError: always.
    """
    from i2core.api import UsageError
    from i2core.config.words import bilingual

    names = [entry.name for entry in registry.plugins]
    installed = ", ".join(names)
    if name in names:
        cause = bilingual("offers no driver", "不提供任何驱动")
    else:
        cause = bilingual(f"not installed; installed: {installed or 'none'}", f"未安装；已安装：{installed or '无'}")
    raise UsageError(cause, obj=f"plugin {name}", next_step=bilingual("see i2 plugins list", "参见 i2 plugins list"))


def _release(entry: PluginEntry) -> str:
    return f"{entry.distribution} {entry.version}"


def _registry_document(registry: Registry) -> dict[str, Any]:
    from i2core.api import DriverKind

    return {
        "plugins": [
            {
                "name": entry.name,
                "distribution": entry.distribution,
                "version": entry.version,
                "drivers": [{"kind": s.kind.value, "name": s.name, "summary": s.summary} for s in entry.drivers],
            }
            for entry in registry.plugins
        ],
        "drivers": {kind.value: list(registry.names(kind)) for kind in DriverKind},
        "problems": [attrs.asdict(problem) for problem in registry.problems],
    }
