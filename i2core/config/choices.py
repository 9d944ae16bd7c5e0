"""Drivers named in the config: reads the word or table that chooses a driver, and checks that the driver is installed
and accepts the options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs

from i2core.api import Code, DriverKind, DriverSpec, UsageError
from i2core.config import values
from i2core.config.keyfile import check_key_file
from i2core.config.lines import KeyPath
from i2core.config.model import DriverChoice
from i2core.config.options import OptionErrors, structure_options
from i2core.config.table import Report, Table
from i2core.config.values import Wrong, not_one_of, wrong_type
from i2core.config.words import Words, both

LEVELS = ("low", "medium", "high")


class InstalledDrivers(Protocol):
    """The part of the registry that reading a config needs: whether a driver is there, and which ones else."""

    def driver(self, kind: DriverKind, name: str) -> DriverSpec:
        """The driver of that name; raises UsageError when there is none that works."""

    def names(self, kind: DriverKind) -> tuple[str, ...]:
        """All drivers that can be chosen."""

    @property
    def problems(self) -> Sequence[object]:
        """The problems of plugins, each as a text for a person."""


@attrs.frozen(kw_only=True)
class Context:
    """Context shared by the readers of tables."""

    registry: InstalledDrivers
    report: Report
    look_at_disk: bool


def _named(value: object) -> DriverChoice:
    if isinstance(value, str):
        return DriverChoice(name=values.text(value))
    if not isinstance(value, dict):
        raise wrong_type(value, Words('"NAME" or { driver = "NAME", … }', '"名称" 或 { driver = "名称", … }'))
    if "driver" not in value:
        raise Wrong(Words("names no driver", "未指定驱动"), Words('{ driver = "NAME", … }', '{ driver = "名称", … }'))
    return DriverChoice(name=values.text(value["driver"]), options={k: v for k, v in value.items() if k != "driver"})


def check_choice(
    choice: DriverChoice, kind: DriverKind, place: KeyPath, context: Context, *, more: Iterable[str] = ()
) -> None:
    """Reports a driver that is missing or does not accept these options. `more` are words allowed besides drivers.

    A driver whose plugin is broken is not a mistake of the config, and must not stop other rules: the rule that needs
    it reports the problem when it starts.
    """
    try:
        structure_options(context.registry.driver(kind, choice.name), choice.options)
    except OptionErrors as errors:
        for path, message, allowed in errors.mistakes:
            context.report.add((*place, *path), message, allowed)
    except UsageError as error:
        if error.code is not Code.PLUGIN_BROKEN:
            names = context.registry.names(kind)
            wrong = not_one_of(choice.name, [*more, *names], kind=Words(f"{kind.value} driver", f"{kind.value} 驱动"))
            broken = "".join(f"; {problem}" for problem in context.registry.problems)
            context.report.add(place, Words(wrong.message.en + broken, wrong.message.zh + broken), wrong.allowed)


def driver_name(table: Table, key: str, kind: DriverKind, default: str, context: Context) -> str:
    """A driver chosen by its name alone."""
    name = table.take(key, values.text, default)
    check_choice(DriverChoice(name=name), kind, (*table.path, key), context)
    return name


def driver(table: Table, key: str, kind: DriverKind, default: str, context: Context) -> DriverChoice:
    """A driver by its name, or by a table with `driver` and its options."""
    choice = table.take(key, _named, DriverChoice(name=default))
    check_choice(choice, kind, (*table.path, key), context)
    return choice


def drivers(table: Table, key: str, kind: DriverKind, context: Context) -> list[DriverChoice]:
    """An array of drivers."""
    found = table.items(key, _named)
    for place, choice in found:
        check_choice(choice, kind, place, context)
    return [choice for _, choice in found]


def capture(table: Table, context: Context) -> DriverChoice:
    """The capture: a driver, or ``"auto"``, which is resolved when the rule starts."""
    auto = DriverChoice(name="auto")
    choice = table.take("capture", _named, auto)
    if choice != auto:
        check_choice(choice, DriverKind.CAPTURE, (*table.path, "capture"), context, more=["auto"])
    return choice


def snapshot_store(table: Table, context: Context) -> DriverChoice:
    """`store` of `[backup] snapshot`: a driver, or ``"auto"``, which is resolved when a snapshot is taken."""
    auto = DriverChoice(name="auto")
    choice = table.take("store", _named, auto)
    if choice != auto:
        check_choice(choice, DriverKind.SNAPSHOT_STORE, (*table.path, "store"), context, more=["auto"])
    return choice


def compression(table: Table, context: Context) -> DriverChoice | None:
    """`compress`: a level of zstd, or another codec as a table; None for ``"none"``."""

    def read(value: object) -> DriverChoice | None:
        if isinstance(value, Mapping):
            return _named(value)
        level = values.text(value)
        if level == "none":
            return None
        if level not in LEVELS:
            raise not_one_of(level, [*LEVELS, "none"])
        return DriverChoice(name="zstd", options={"level": level})

    choice = table.take("compress", read, None)
    if choice is not None:
        check_choice(choice, DriverKind.CODEC, (*table.path, "compress"), context)
    return choice


def encryption(table: Table, context: Context, *, besides: Iterable[str] = ()) -> DriverChoice:
    """The encrypting codec of a table: `key_file` or `passphrase_file` for aesgcm, or any codec by `driver` with its
    own options. `besides` are keys of the table that do not belong to the codec."""
    table.known |= {"driver", "key_file", "passphrase_file"}
    options: dict[str, Any] = {key: value for key, value in table.data.items() if key not in {*besides, "driver"}}
    if "driver" in table:
        table.known |= options.keys()
        choice = DriverChoice(name=table.take("driver", values.text, "aesgcm"), options=options)
    else:
        files = {key: value for key, value in options.items() if key in ("key_file", "passphrase_file")}
        choice = DriverChoice(name="aesgcm", options=files)
        if len(files) != 1:
            message = Words("exactly one of the two is needed", "两者必须且只能写一个")
            table.wrong("", message, both("key_file, passphrase_file"))
            return choice
    check_choice(choice, DriverKind.CODEC, table.path, context)
    for key in ("key_file", "passphrase_file"):
        if isinstance(options.get(key), str):
            with context.report.at((*table.path, key)):
                path = values.absolute_path(options[key])
                if context.look_at_disk:
                    check_key_file(path)
    return choice
