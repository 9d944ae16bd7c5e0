"""Options of the glob filter in a config file."""

from __future__ import annotations

import attrs


def _absolute_paths(_config: object, _option: object, paths: tuple[str, ...]) -> None:
    for path in paths:
        if not path.startswith("/") or "\0" in path or {".", ".."} & set(path.split("/")):
            raise ValueError(f"exclude: {path!r} is not an absolute path without . and ..")


def _name_patterns(_config: object, option: attrs.Attribute[tuple[str, ...]], patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        if not pattern or "/" in pattern:
            raise ValueError(f"{option.name}: {pattern!r} is not a pattern for a file's name")


@attrs.frozen(kw_only=True)
class GlobConfig:
    """``{ exclude = [], include_types = [], exclude_types = [] }``. Bytes that are not UTF-8 are lone surrogates, as
    in the results of `os.fsdecode`."""

    exclude: tuple[str, ...] = attrs.field(default=(), validator=_absolute_paths)
    include_types: tuple[str, ...] = attrs.field(default=(), validator=_name_patterns)
    exclude_types: tuple[str, ...] = attrs.field(default=(), validator=_name_patterns)
