"""A rule made from one command line instead of a config file.

Everything here decides and nothing writes: a wrong command line must leave no trace on disk.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from i2core.api import Code, UsageError
from i2core.config.keyfile import check_key_file
from i2core.config.model import (
    BackupRole,
    Brake,
    DriverChoice,
    First,
    MirrorOptions,
    OnError,
    OrphanAction,
    Orphans,
    Pair,
    Rule,
    Verify,
)
from i2core.config.values import Wrong
from i2core.config.words import language
from i2core.node.speech import said

LOCAL = "localhost"
"""Name of the backup node when it is a process on this host."""

_NODE_AND_DIR = re.compile(r"(?P<node>[A-Za-z0-9][\w.-]*):(?P<dir>/.*)", re.DOTALL)


@attrs.frozen(kw_only=True)
class Wish:
    """What the command line asked for, as given."""

    source: str
    destination: str
    """A directory here, or ``NODE:DIR``."""
    verify: str = "time"
    on_error: str = "log"
    first: str = "auto"
    orphans: str = "keep"
    """``keep``, ``delete`` or ``move:DIR``."""
    exclude: Sequence[str] = ()
    include_types: Sequence[str] = ()
    exclude_types: Sequence[str] = ()
    capture: str = "auto"
    compress: str | None = None
    """None: nothing between processes of one host, low to another node."""
    key_file: str | None = None


@attrs.frozen(kw_only=True)
class Single:
    """The rule, and the backup role that belongs to it when its destination is a directory here."""

    rule: Rule
    role: BackupRole | None


def split_destination(destination: str) -> tuple[str | None, str]:
    """Node and directory of ``NODE:DIR``; node None for a local path (``./a:/b`` is one)."""
    match = _NODE_AND_DIR.fullmatch(destination)
    return (match["node"], match["dir"]) if match else (None, destination)


def single_rule(wish: Wish) -> Single:
    """Checks the wish against what is on disk, and makes the rule.

    Raises:
        UsageError: source missing or of a wrong kind, paths inside each other, an option that does not fit.
    """
    for what, given in (("SRC", wish.source), ("DST", wish.destination)):
        if not given:
            raise UsageError(said("is empty", "为空"), obj=what, next_step=said("name a path", "请指定路径"))
    source = _source(wish.source)
    _refuse_relative_remote(wish.destination)
    node, directory = split_destination(wish.destination)
    target = _local_target(source, directory) if node is None else _remote_target(source, directory)
    orphans = _orphans(wish.orphans, source, target, local=node is None)
    name = "replicate-" + hashlib.blake2s(source + b"\0" + os.fsencode(node or "") + b"\0" + target).hexdigest()[:12]
    codecs = _codecs(wish, local=node is None)
    rule = Rule(
        name=name,
        backup=node or LOCAL,
        pairs=(Pair(source=source, target=target),),
        filters=_filters(wish, source),
        capture=DriverChoice(name=wish.capture),
        mirror=MirrorOptions(verify=Verify(wish.verify), on_error=OnError(wish.on_error), first=First(wish.first)),
        codecs=codecs,
        orphans=orphans,
        # A held delete is released at the backup node's daemon; a directory here has none, and would hang for ever.
        brake=Brake() if node is not None else Brake(share=1.0),
    )
    if node is not None:
        return Single(rule=rule, role=None)
    roots = (_directory_of(source, target),) if orphans.to is None else (_directory_of(source, target), orphans.to)
    keys = {rule.name: codecs[-1]} if wish.key_file is not None else {}
    return Single(rule=rule, role=BackupRole(listen="127.0.0.1", plaintext=True, allow_roots=roots, keys=keys))


def inside(path: bytes, directory: bytes) -> bool:
    """True when `path` is `directory` or beneath it; both absolute and without symlinks."""
    return path == directory or path.startswith(directory.rstrip(b"/") + b"/")


def _source(given: str) -> bytes:
    path = os.path.realpath(os.fsencode(given))
    try:
        os.stat(path)
    except OSError as error:
        raise UsageError(
            error.strerror or str(error),
            code=Code.SOURCE_GONE,
            obj=given,
            next_step=said("name a directory or file that exists", "请指定存在的目录或文件"),
        ) from error
    if not os.path.isdir(path) and not os.path.isfile(path):
        raise UsageError(
            said("neither a directory nor a regular file", "既不是目录也不是普通文件"),
            obj=given,
            next_step=said("name the directory it is in", "请指定其所在目录"),
        )
    return path


def _refuse_relative_remote(destination: str) -> None:
    """Refuses ``NODE:dir``, which other tools take for a directory on that node; one here must be there already."""
    node, colon, directory = destination.partition(":")
    if colon and "/" not in node and not directory.startswith("/") and not os.path.lexists(destination):
        raise UsageError(
            said("a directory on another node is an absolute path", "其他节点上的目录必须是绝对路径"),
            obj=destination,
            next_step=said(
                f"write {node}:/{directory}, or ./{destination} for a directory here",
                f"请写成 {node}:/{directory}；若指本机目录，请写成 ./{destination}",
            ),
        )


def _directory_of(source: bytes, target: bytes) -> bytes:
    """The directory that a target needs: itself, or the one that its single file is in."""
    return target if os.path.isdir(source) else os.path.dirname(target)


def _local_target(source: bytes, directory: str) -> bytes:
    path = os.path.realpath(os.fsencode(directory))
    _refuse_file_in_the_way(path, directory)
    if inside(path, source):
        raise UsageError(
            said(
                "the destination is inside the source: each copy would be copied again",
                "目标位于源目录之内：复制出的文件会被再次复制",
            ),
            code=Code.ILLEGAL_PATH,
            obj=directory,
            next_step=said("choose a destination outside of it", "请选择源目录之外的目标"),
        )
    if os.path.isdir(source):
        if inside(source, path):
            raise UsageError(
                said(
                    "the source is inside the destination: it could be overwritten by its own copy",
                    "源位于目标目录之内：可能被自己的副本覆盖",
                ),
                code=Code.ILLEGAL_PATH,
                obj=directory,
                next_step=said("choose a destination beside it", "请选择与其并列的目标"),
            )
        return path
    target = os.path.join(path, os.path.basename(source))
    if target == source:
        raise UsageError(
            said("source and destination are the same file", "源和目标是同一个文件"),
            code=Code.ILLEGAL_PATH,
            obj=directory,
            next_step=said("choose another directory", "请选择其他目录"),
        )
    return target


def _refuse_file_in_the_way(path: bytes, given: str) -> None:
    """Refuses a destination that is, or lies beneath, something that is no directory."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UsageError(
            said(f"{os.fsdecode(path)} is no directory", f"{os.fsdecode(path)} 不是目录"),
            obj=given,
            next_step=said("choose a directory, or a new name", "请选择目录，或使用新名称"),
        )


def _remote_target(source: bytes, directory: str) -> bytes:
    path = os.path.normpath(os.fsencode(directory))
    return path if os.path.isdir(source) else os.path.join(path, os.path.basename(source))


def _orphans(given: str, source: bytes, target: bytes, *, local: bool) -> Orphans:
    action, _, to = given.partition(":")
    if action in ("keep", "delete") and not to:
        return Orphans(action=OrphanAction(action))
    if action != "move" or not to:
        raise UsageError(
            said(f"not keep, delete or move:DIR: {given}", f"不是 keep、delete 或 move:目录：{given}"), obj="--orphans"
        )
    if local:
        place = os.path.realpath(os.fsencode(to))
        _refuse_file_in_the_way(place, to)
    elif not os.path.isabs(to):
        raise UsageError(
            said("must be an absolute path on the backup node", "必须是灾备机上的绝对路径"), obj=f"--orphans {given}"
        )
    else:
        place = os.path.normpath(os.fsencode(to))
    if inside(place, target) or (local and inside(place, source)):
        raise UsageError(
            said("orphans cannot be moved into the source or the replica", "孤儿文件不能移动到源目录或灾备目录之内"),
            code=Code.ILLEGAL_PATH,
            obj=f"--orphans {given}",
            next_step=said("choose a directory beside them", "请选择与其并列的目录"),
        )
    return Orphans(action=OrphanAction.MOVE, to=place)


def _filters(wish: Wish, source: bytes) -> tuple[DriverChoice, ...]:
    excluded = [os.path.normpath(os.path.join(source, os.fsencode(path))) for path in wish.exclude]
    for given, path in zip(wish.exclude, excluded, strict=True):
        if not inside(path, source) or path == source:
            raise UsageError(
                said("not beneath the source", "不在源目录之下"),
                obj=f"--exclude {given}",
                next_step=said("name a path in it, absolute or relative", "请指定其中的绝对或相对路径"),
            )
    options: Mapping[str, Any] = {
        "exclude": [os.fsdecode(path) for path in excluded],
        "include_types": list(wish.include_types),
        "exclude_types": list(wish.exclude_types),
    }
    return (DriverChoice(name="glob", options=options),) if any(options.values()) else ()


def _codecs(wish: Wish, *, local: bool) -> tuple[DriverChoice, ...]:
    level = wish.compress or ("none" if local else "low")
    codecs = [] if level == "none" else [DriverChoice(name="zstd", options={"level": level})]
    if wish.key_file is not None:
        key_file = os.path.abspath(wish.key_file)
        try:
            check_key_file(os.fsencode(key_file))
        except Wrong as wrong:
            raise UsageError(wrong.message.text(language()), obj=f"--key-file {wish.key_file}") from None
        codecs.append(DriverChoice(name="aesgcm", options={"key_file": key_file}))
    return tuple(codecs)
