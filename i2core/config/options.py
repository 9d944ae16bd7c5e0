"""A driver's options: cattrs converts the TOML table of a rule into the driver's own config class. Unknown keys and
silent conversions are refused, and each mistake names its key."""

from __future__ import annotations

import enum
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import attrs
from cattrs import (
    AttributeValidationNote,
    BaseConverter,
    BaseValidationError,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
)
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn

from i2core.api import DriverSpec, UsageError
from i2core.config import values
from i2core.config.lines import KeyPath
from i2core.config.table import dotted
from i2core.config.values import Wrong, did_you_mean, not_one_of, wrong_type
from i2core.config.words import Words, both, language

Hook = Callable[[object, Any], Any]
"""Converts a value to the type."""


class OptionMistake(NamedTuple):
    """One wrong option; `path` leads to it from the top of the options."""

    path: KeyPath
    message: Words
    allowed: Words | None


class OptionErrors(UsageError):
    """The options do not fit the driver; `mistakes` lists every mistake."""

    def __init__(self, driver: str, mistakes: tuple[OptionMistake, ...]) -> None:
        self.mistakes = mistakes
        lang = language()
        texts = []
        for path, message, allowed in mistakes:
            key = f"{dotted(path)}: " if path else ""
            words = f" ({allowed.text(lang)})" if allowed else ""
            texts.append(f"{key}{message.text(lang)}{words}")
        super().__init__("; ".join(texts), obj=driver)


def structure_options(spec: DriverSpec, options: Mapping[str, Any]) -> Any:
    """The instance of `spec.config` that `spec.open` takes.

    Raises:
        OptionErrors: (a `UsageError`) unknown keys, wrong types, missing keys, values that the class refuses.
    """
    try:
        return _CONVERTER.structure(options, spec.config)
    except (BaseValidationError, Wrong) as error:
        raise OptionErrors(spec.name, tuple(_mistakes(error, ()))) from None


def named_to_peer(spec: DriverSpec) -> frozenset[str]:
    """The options that one node may set for the other: numbers, flags, and words of a fixed list. Text and paths are
    not sent, because they could name a file or hold a secret; each node has them in its own config."""
    try:
        kinds = typing.get_type_hints(spec.config)
    except NameError:  # a type that is imported for type checkers only
        return frozenset()
    fields = {field.name: field.alias or field.name for field in attrs.fields(spec.config)}
    return frozenset(alias for name, alias in fields.items() if _is_plain(kinds.get(name)))


def _is_plain(kind: Any) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return all(part is type(None) or _is_plain(part) for part in typing.get_args(kind))
    return kind in (bool, int, float) or isinstance(kind, enum.EnumMeta) or _is_literal(kind)


def _text(value: object, _: type) -> str:
    if not isinstance(value, str):
        raise wrong_type(value, Words("text in quotes", "带引号的文本"))
    return value


def _number(value: object, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, Words("a number", "数"))
    return float(value)


def _integer(value: object, _: type) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, Words("a whole number", "整数"))
    return value


def _literal(value: object, kind: Any) -> object:
    words = typing.get_args(kind)
    # 1 equals True in Python, but not in TOML.
    if not any(value == word and type(value) is type(word) for word in words):
        raise not_one_of(value, map(str, words))
    return value


def _enumeration(value: object, kind: type[enum.Enum]) -> enum.Enum:
    return values.word(kind)(value)


def _absolute(value: object, _: type) -> bytes:
    return values.absolute_path(value)


def _guarded(inner: Hook, kind_of_value: type | tuple[type, ...], wanted: Words) -> Hook:
    """cattrs' own hook after a check of the type. Without the check, cattrs would iterate over a text as over an array,
    and would report each key of a value that is not a table."""

    def read(value: object, kind: Any) -> Any:
        if not isinstance(value, kind_of_value):
            raise wrong_type(value, wanted)
        return inner(value, kind)

    return read


def _sequence(kind: Any, converter: BaseConverter) -> Hook:
    items: Any = types.GenericAlias(list, typing.get_args(kind)[:1])
    inner = _guarded(list_structure_factory(items, converter), (list, tuple), Words("an array: [ … ]", "数组：[ … ]"))
    whole = list if typing.get_origin(kind) is list else tuple
    return lambda value, _: whole(inner(value, items))


def _config_class(kind: Any, converter: BaseConverter) -> Hook:
    inner: Any = make_dict_structure_fn(kind, converter)
    return _guarded(inner, Mapping, Words("a table", "表"))


def _is_sequence(kind: Any) -> bool:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    return origin in (list, Sequence) or (origin is tuple and args[-1:] == (...,))


def _is_literal(kind: Any) -> bool:
    origin: object = typing.get_origin(kind)
    return origin is typing.Literal


def _strict() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, lambda value, _: values.flag(value))
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(bytes, _absolute)
    converter.register_structure_hook(Path, lambda value, _: Path(os.fsdecode(values.absolute_path(value))))
    converter.register_structure_hook_func(lambda kind: isinstance(kind, enum.EnumMeta), _enumeration)
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook_factory(_is_sequence, _sequence)
    converter.register_structure_hook_factory(attrs.has, _config_class)
    return converter


_CONVERTER = _strict()


def _mistakes(error: Exception, path: KeyPath) -> Iterator[OptionMistake]:
    """Walks the tree of errors of cattrs; the notes on each branch hold the key or the index."""
    if isinstance(error, ClassValidationError | IterableValidationError):
        placed, other = error.group_exceptions()
        for inner, note in placed:
            step = note.name if isinstance(note, AttributeValidationNote) else note.index
            if isinstance(inner, KeyError) and isinstance(error, ClassValidationError) and inner.args == (step,):
                yield OptionMistake((*path, step), Words("is missing", "缺少该键"), None)
            else:
                yield from _mistakes(inner, (*path, step))
        for inner in other:
            yield from _mistakes(inner, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [field.alias or field.name for field in attrs.fields(error.cl)]
        for key in sorted(error.extra_fields):
            near = did_you_mean(key, known)
            message = Words(f"unknown key{near.en}", f"未知的键{near.zh}")
            yield OptionMistake((*path, key), message, both(", ".join(known)) if known else None)
    elif isinstance(error, Wrong):
        yield OptionMistake(path, error.message, error.allowed)
    else:
        # The class's own validator refused; attrs' validators have the attribute as their second argument.
        field = next((arg.name for arg in error.args[1:2] if isinstance(arg, attrs.Attribute)), None)
        refusal = str(error.args[0]) if error.args else str(error)
        yield OptionMistake((*path, field) if field else path, Words(refusal, f"驱动不接受：{refusal}"), None)
