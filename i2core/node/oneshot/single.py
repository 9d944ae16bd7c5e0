"""A rule made from one command line instead of a config file.

This module only checks and never writes: a wrong command line must leave no trace on disk.
"""

from __future__ import annotations

import hashlib
import os
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
from i2core.config.mounts import overlap, reaches
from i2core.config.notices import PATTERN, all_beneath
from i2core.config.values import Wrong, name, written
from i2core.config.words import bilingual, language
from i2core.posix.mounts import mounts_here

LOCAL = "localhost"
"""Name of the backup node when it is a process on this host."""


@attrs.frozen(kw_only=True)
class Wish:
    """The arguments of the command line, as given."""

    source: str
    destination: str
    """A directory on this host, or ``NODE:DIR``."""
    verify: str = "time"
    on_error: str = "log"
    first: str = "auto"
    orphans: str = "keep"
    """``keep``, ``delete`` or ``move:DIR``."""
    exclude: Sequence[str] = ()
    include_types: Sequence[str] = ()
    exclude_types: Sequence[str] = ()
    capture: str = "auto"
    brake: str = "on"
    inode_flags: bool = False
    compress: str | None = None
    """None: no compression between processes of one host, low to another node."""
    key_file: str | None = None


@attrs.frozen(kw_only=True)
class Single:
    """The rule, and its backup role if the destination is a directory on this host."""

    rule: Rule
    role: BackupRole | None
    absent: tuple[str, ...] = ()
    """Excluded paths that do not exist, as given."""


def split_destination(destination: str) -> tuple[str | None, str]:
    """Node and directory of ``NODE:DIR``; node None for a path on this host. As in other tools, a colon before the
    first slash means another host: no directory with such a name is created here (write ``./a:b`` for one).

    Raises:
        UsageError: it names another host, but not in the form NODE:/DIR.
    """
    head, colon, _ = destination.partition(":")
    if not colon or "/" in head:
        return None, destination
    node, colon, rest = destination.partition(":/")
    try:
        fits = bool(colon) and not rest.startswith("/") and name(node) == node
    except Wrong:
        fits = False
    if fits:
        return node, "/" + rest
    raise UsageError(
        bilingual("not a directory on another node: write NODE:/DIR", "不是其他节点上的目录：应写成 节点:/目录"),
        obj=destination,
        next_step=bilingual(
            f"name a backup node of the config and an absolute path there, or write ./{destination} for a directory "
            "here",
            f"请写明配置中的灾备机名称及其绝对路径；若指本机目录，请写成 ./{destination}",
        ),
    )


def single_rule(wish: Wish) -> Single:
    """Checks the arguments against the disk, and makes the rule.

    Raises:
        UsageError: source missing or of a wrong kind, paths inside each other, an option that does not fit.
    """
    for what, given in (("SRC", wish.source), ("DST", wish.destination)):
        if not given:
            raise UsageError(bilingual("is empty", "为空"), obj=what, next_step=bilingual("name a path", "请指定路径"))
    source = _source(wish.source)
    node, directory = split_destination(wish.destination)
    target = _local_target(source, directory) if node is None else _remote_target(source, directory)
    orphans = _orphans(wish.orphans, source, target, local=node is None)
    rule_name = (
        "replicate-" + hashlib.blake2s(source + b"\0" + os.fsencode(node or "") + b"\0" + target).hexdigest()[:12]
    )
    codecs = _codecs(wish, local=node is None)
    rule = Rule(
        name=rule_name,
        backup=node or LOCAL,
        pairs=(Pair(source=source, target=target),),
        filters=_filters(wish, source),
        capture=DriverChoice(name=wish.capture),
        mirror=MirrorOptions(verify=Verify(wish.verify), on_error=OnError(wish.on_error), first=First(wish.first)),
        codecs=codecs,
        orphans=orphans,
        inode_flags=wish.inode_flags,
        brake=Brake() if wish.brake == "on" else Brake(share=1.0),
    )
    absent = tuple(path for path in wish.exclude if not os.path.lexists(_excluded(path, source)))
    if node is not None:
        return Single(rule=rule, role=None, absent=absent)
    roots = (_directory_of(source, target),) if orphans.to is None else (_directory_of(source, target), orphans.to)
    keys = {rule.name: codecs[-1]} if wish.key_file is not None else {}
    role = BackupRole(listen="127.0.0.1", plaintext=True, allow_roots=roots, keys=keys)
    return Single(rule=rule, role=role, absent=absent)


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
            next_step=bilingual("name a directory or file that exists", "请指定存在的目录或文件"),
        ) from error
    if not os.path.isdir(path) and not os.path.isfile(path):
        raise UsageError(
            bilingual("neither a directory nor a regular file", "既不是目录也不是普通文件"),
            obj=given,
            next_step=bilingual("name the directory it is in", "请指定其所在目录"),
        )
    return path


def _directory_of(source: bytes, target: bytes) -> bytes:
    """The directory that a target needs: itself, or the parent of a single file."""
    return target if os.path.isdir(source) else os.path.dirname(target)


def _local_target(source: bytes, directory: str) -> bytes:
    path = os.path.realpath(os.fsencode(directory))
    _refuse_file_in_the_way(path, directory)
    mounts = mounts_here()
    if reaches(source, path, mounts):
        raise UsageError(
            bilingual(
                "the destination is inside the source: each copy would be copied again",
                "目标位于源目录之内：复制出的文件会被再次复制",
            ),
            code=Code.ILLEGAL_PATH,
            obj=directory,
            next_step=bilingual("choose a destination outside of it", "请选择源目录之外的目标"),
        )
    if os.path.isdir(source):
        if reaches(path, source, mounts):
            raise UsageError(
                bilingual(
                    "the source is inside the destination: it could be overwritten by its own copy",
                    "源位于目标目录之内：可能被自己的灾备数据覆盖",
                ),
                code=Code.ILLEGAL_PATH,
                obj=directory,
                next_step=bilingual("choose a destination next to it", "请选择与其并列的目标"),
            )
        return path
    target = os.path.join(path, os.path.basename(source))
    if overlap(source, target, mounts):
        raise UsageError(
            bilingual("source and destination are the same file", "源和目标是同一个文件"),
            code=Code.ILLEGAL_PATH,
            obj=directory,
            next_step=bilingual("choose another directory", "请选择其他目录"),
        )
    return target


def _refuse_file_in_the_way(path: bytes, given: str) -> None:
    """Refuses a destination that is not a directory, or is beneath something that is not a directory."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise UsageError(
            bilingual(f"{os.fsdecode(path)} is not a directory", f"{os.fsdecode(path)} 不是目录"),
            obj=given,
            next_step=bilingual("choose a directory, or a new name", "请选择目录，或使用新名称"),
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
            bilingual(f"not keep, delete or move:DIR: {given}", f"不是 keep、delete 或 move:目录：{given}"),
            obj="--orphans",
        )
    if local:
        place = os.path.realpath(os.fsencode(to))
        _refuse_file_in_the_way(place, to)
    elif not os.path.isabs(to):
        raise UsageError(
            bilingual("must be an absolute path on the backup node", "必须是灾备机上的绝对路径"),
            obj=f"--orphans {given}",
        )
    else:
        place = os.path.normpath(os.fsencode(to))
    mounts = mounts_here() if local else []
    if reaches(target, place, mounts) or (local and reaches(source, place, mounts)):
        raise UsageError(
            bilingual(
                "orphans cannot be moved into the source or the replica", "孤儿文件不能移动到源目录或灾备目录之内"
            ),
            code=Code.ILLEGAL_PATH,
            obj=f"--orphans {given}",
            next_step=bilingual("choose a directory next to them", "请选择与其并列的目录"),
        )
    return Orphans(action=OrphanAction.MOVE, to=place)


def _filters(wish: Wish, source: bytes) -> tuple[DriverChoice, ...]:
    excluded = [_excluded(path, source) for path in wish.exclude]
    for given, path in zip(wish.exclude, excluded, strict=True):
        if not inside(path, source) or path == source:
            raise UsageError(
                bilingual("not beneath the source", "不在源目录之下"),
                obj=f"--exclude {given}",
                next_step=bilingual("name a path in it, absolute or relative", "请指定其中的绝对或相对路径"),
            )
        if not os.path.lexists(path):
            _refuse_mistyped(given, source)
    options: Mapping[str, Any] = {
        "exclude": [written(path) for path in excluded],
        "include_types": list(wish.include_types),
        "exclude_types": list(wish.exclude_types),
    }
    return (DriverChoice(name="glob", options=options),) if any(options.values()) else ()


def _excluded(given: str, source: bytes) -> bytes:
    """The path of ``--exclude``, absolute or relative to the source, with the symlinks above it resolved."""
    path = os.fsencode(given)
    if not os.path.isabs(path):
        return os.path.normpath(os.path.join(source, path))
    above, last = os.path.split(os.path.normpath(path))
    return os.path.join(os.path.realpath(above), last)


def _refuse_mistyped(given: str, source: bytes) -> None:
    """Refuses an exclude that does not exist and looks like a mistake; any other may be created later.

    Raises:
        UsageError: it is a pattern, or is relative to the working directory.
    """
    if PATTERN.search(given):
        names = f"--exclude-type {os.path.basename(given)!r}"
        above = all_beneath(given)
        raise UsageError(
            bilingual("no such path; patterns are not supported here", "没有此路径；此处不接受模式"),
            obj=f"--exclude {given}",
            next_step=bilingual(
                f"--exclude {above} excludes everything beneath it" if above else f"for names of files: {names}",
                f"--exclude {above} 即排除其下全部内容" if above else f"若按文件名排除，请用 {names}",
            ),
        )
    # Relative to the working directory, or with the source's own name in front.
    from_here, by_name = os.path.abspath(os.fsencode(given)), os.path.join(os.path.dirname(source), os.fsencode(given))
    for path in (from_here, by_name):
        if inside(path, source) and path != source and os.path.lexists(path):
            meant = os.fsdecode(os.path.relpath(path, source))
            raise UsageError(
                bilingual("no such path beneath the source", "源目录之下没有此路径"),
                obj=f"--exclude {given}",
                next_step=bilingual(
                    f"paths are relative to SRC: --exclude {meant}", f"路径相对于 SRC：--exclude {meant}"
                ),
            )


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
