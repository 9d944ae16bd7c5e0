"""Drivers named in the config: which word or table chooses which driver, and whether it is installed and takes these
options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs

from i2core.api import DriverKind, DriverSpec
from i2core.config import values
from i2core.config.keyfile import check_key_file
from i2core.config.lines import KeyPath
from i2core.config.model import DriverChoice
from i2core.config.options import OptionErrors, structure_options
from i2core.config.table import Report, Table
from i2core.config.values import Wrong, not_one_of, wrong_type
from i2core.config.words import Words, both

LEVELS = ("low", "medium", "high")


class Drivers(Protocol):
    """What loading asks the registry."""

    def driver(self, kind: DriverKind, name: str) -> DriverSpec:
        """The driver of that name; raises UsageError when there is none that works."""

    def names(self, kind: DriverKind) -> tuple[str, ...]:
        """All that can be chosen."""


@attrs.frozen(kw_only=True)
class Context:
    """What the readers of tables share."""

    registry: Drivers
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
    """Notes when the driver is not there, or does not take these options. `more` are words beside the drivers."""
    names = context.registry.names(kind)
    if choice.name not in names:
        what = Words(f"{kind.value} driver", f"{kind.value} 驱动")
        wrong = not_one_of(choice.name, [*more, *names], kind=what)
        context.report.add(place, wrong.message, wrong.allowed)
        return
    try:
        structure_options(context.registry.driver(kind, choice.name), choice.options)
    except OptionErrors as errors:
        for path, message, allowed in errors.mistakes:
            context.report.add((*place, *path), message, allowed)


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
    """The capture: a driver, or ``"auto"``, which is left for the rule's start to decide."""
    auto = DriverChoice(name="auto")
    choice = table.take("capture", _named, auto)
    if choice != auto:
        check_choice(choice, DriverKind.CAPTURE, (*table.path, "capture"), context, more=["auto"])
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


def encryption(table: Table, context: Context, *, beside: Iterable[str] = ()) -> DriverChoice:
    """The encrypting codec of a table: `key_file` or `passphrase_file` for aesgcm, or any codec by `driver` with its
    own options. `beside` are keys of the table that do not belong to the codec."""
    table.known |= {"driver", "key_file", "passphrase_file"}
    options: dict[str, Any] = {key: value for key, value in table.data.items() if key not in {*beside, "driver"}}
    if "driver" in table:
        table.known |= options.keys()
        choice = DriverChoice(name=table.take("driver", values.text, "aesgcm"), options=options)
    else:
        files = {key: value for key, value in options.items() if key in ("key_file", "passphrase_file")}
        choice = DriverChoice(name="aesgcm", options=files)
        if len(files) != 1:
            said = Words("exactly one of both is needed", "两者必须且只能写一个")
            table.wrong("", said, both("key_file, passphrase_file"))
            return choice
    check_choice(choice, DriverKind.CODEC, table.path, context)
    for key in ("key_file", "passphrase_file"):
        if isinstance(options.get(key), str):
            with context.report.at((*table.path, key)):
                path = values.absolute_path(options[key])
                if context.look_at_disk:
                    check_key_file(path)
    return choice
