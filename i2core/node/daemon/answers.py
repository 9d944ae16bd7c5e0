"""What all answers of the control API are made with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import cattrs
from starlette.requests import Request
from starlette.responses import JSONResponse

from i2core.api import UsageError
from i2core.config.words import bilingual

BODY_BYTES = 1 << 20
T = TypeVar("T")
_converter = cattrs.Converter(forbid_extra_keys=True)


def _as_it_is(value: Any, kind: type) -> Any:
    """A value of just this type: ``"no"`` is not true, and 2.5 is not 2."""
    if type(value) is not kind:
        raise TypeError(f"no {kind}")
    return value


def _text(value: Any, _: type) -> str:
    """A text that may be a path: bytes that are not UTF-8 as surrogates."""
    text: str = _as_it_is(value, str)
    if b"\0" in os.fsencode(text):
        raise ValueError("a NUL in a text")
    return text


def _texts(value: Any, _: type) -> list[str]:
    """A text is no list of letters."""
    return [_text(each, str) for each in _as_it_is(value, list)]


_converter.register_structure_hook(bool, _as_it_is)
_converter.register_structure_hook(int, _as_it_is)
_converter.register_structure_hook(str, _text)
_converter.register_structure_hook_func(lambda kind: kind == list[str], _texts)


class Document(JSONResponse):
    """File names that are not UTF-8 are sent as escapes of lone surrogates, which UTF-8 itself cannot represent."""

    def render(self, content: Any) -> bytes:
        """The document in ASCII."""
        return json.dumps(content).encode()


def number(asked: Mapping[str, str], key: str, default: int | None, least: int, most: int) -> int | None:
    """A whole number that is asked for.

    Raises:
        UsageError: it is none, or out of range.
    """
    text = asked.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and least <= int(text) <= most):
        raise UsageError(
            bilingual(f"must be a whole number from {least} to {most}", f"必须是 {least} 到 {most} 的整数"), obj=key
        )
    return int(text)


def rule_name(request: Request) -> str:
    """``RULE``, or ``PEER/RULE`` for a received rule."""
    name: str = request.path_params["name"]
    return name


def asked_of(request: Request) -> dict[str, str]:
    """What a question asks for. Bytes of a path that are not UTF-8 are kept as surrogates."""
    return dict(parse_qsl(request.url.query, errors="surrogateescape"))


def body_of(body: bytes, kind: type[T]) -> T:
    """The JSON body of a question.

    Raises:
        UsageError: it is none, or has other keys or values.
    """
    try:
        if len(body) > BODY_BYTES:
            raise ValueError("too long")  # noqa: TRY301
        return _converter.structure(_as_it_is(json.loads(body), dict), kind)
    except (ValueError, TypeError, RecursionError, cattrs.BaseValidationError) as error:
        raise UsageError(bilingual("the question cannot be understood", "无法理解该请求")) from error
