"""Where a recovery may write: checks the destination before anything is written there, and makes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

import attrs

from i2core.api import Code, UsageError
from i2core.config.mounts import overlap, reaches
from i2core.config.places import nested, real
from i2core.config.words import Bilingual, bilingual
from i2core.posix.errnos import GONE
from i2core.posix.mounts import mounts_here
from i2core.posix.path_text import shown
from i2core.posix.target_locks import Taken, TargetLocks
from i2core.posix.tree import LocalTree

_ELSEWHERE = bilingual("choose another directory", "请选择其他目录")
_OTHERS_MAY_WRITE = 0o022


@attrs.frozen
class Forbidden:
    """A directory in which nothing may be recovered, and which no recovered part may contain."""

    path: bytes
    why: Bilingual
    """What it is, as a part of a sentence: "the target of rule data1, which is running"."""
    next_step: Bilingual = _ELSEWHERE


def checked(to: bytes, forbidden: Iterable[Forbidden]) -> bytes:
    """The destination without symlinks. Nothing is written.

    Raises:
        UsageError: it is no absolute path, leads through a symlink that another user can exchange, through something
            that is no directory, or into a forbidden place (3571).
    """
    if not to.startswith(b"/") or b"\0" in to or b".." in to.split(b"/"):
        raise refused(to, bilingual("is not an absolute path without ..", "不是不含 .. 的绝对路径"))
    _refuse_traps(to)
    path = real(to)
    if path == b"/":
        raise refused(to, bilingual("is the root of the whole system", "是整个系统的根目录"))
    above = path
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise refused(above, bilingual("is not a directory", "不是目录"))
    mounts = mounts_here()
    for place in forbidden:
        if reaches(real(place.path), path, mounts):
            raise _forbidden(to, place)
    return path


def check_parts(to: bytes, places: Iterable[bytes], forbidden: Iterable[Forbidden]) -> None:
    """Checks the places beneath a checked destination to which parts come.

    Raises:
        UsageError: a forbidden place would lie in one, and be changed with it (3571).
    """
    mounts = mounts_here()
    others = [(place, real(place.path)) for place in forbidden]
    for at in places:
        whole = real(to + b"/" + at) if at else to
        for place, path in others:
            if nested(whole, path) or overlap(whole, path, mounts):
                raise _forbidden(whole, place)


def check_shells(shells: Iterable[bytes], there: LocalTree | None) -> None:
    """Checks that what leads to the parts can be there.

    Raises:
        UsageError: something else has the name of a directory that leads to a part (3571).
    """
    if there is None:
        return
    for path in shells:
        entry = there.lookup(path) if path else None
        if entry is not None and not stat.S_ISDIR(entry.mode):
            cause = bilingual(
                "is not a directory, and what is recovered comes beneath it", "不是目录，而恢复内容位于其下"
            )
            raise refused(there.path + b"/" + path, cause, bilingual("move it away first", "请先将其移走"))


def opened(to: bytes, *, flags: bool) -> LocalTree | None:
    """The destination as it stands, to be read; None: it is not there.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return LocalTree(to, flags=flags)
    except OSError as error:
        if error.errno in GONE:
            return None
        cause = bilingual(f"cannot be opened: {error.strerror}", f"无法打开：{error.strerror}")
        raise refused(to, cause) from error


def make(path: bytes) -> None:
    """Makes the directory if it is missing, for this user alone until the mirror has set its attributes.

    Raises:
        UsageError: it cannot be made.
        StopRule: another process writes a directory that contains it (3572); nothing is made.
    """
    locks = TargetLocks()
    try:
        claim = locks.claim_way(path, lambda line: None)
        try:
            os.makedirs(path, 0o700, exist_ok=True)
        finally:
            locks.release(claim)
    except Taken as taken:
        raise taken.refuses(shown(path)) from taken
    except OSError as error:
        cause = bilingual(f"cannot be made: {error.strerror}", f"无法创建：{error.strerror}")
        raise refused(path, cause, bilingual("choose a directory that can be written", "请选择可写的目录")) from error


def aside_of(path: bytes, time_text: str) -> bytes:
    """Where extra files of the destination are moved: a directory beside it, which is not there yet.

    Raises:
        UsageError: a file system is mounted at the destination, so nothing can be moved out of it (3571).
    """
    above = os.path.dirname(path)
    if os.path.lexists(path) and os.stat(path).st_dev != os.stat(above).st_dev:
        cause = bilingual(
            "is a mount point: what is extra cannot be moved beside it", "是挂载点：多余的文件无法移到其旁边"
        )
        step = bilingual(
            "choose a directory in it, or keep or delete what is extra", "请选择其中的目录，或保留、删除多余的文件"
        )
        raise refused(path, cause, step)
    return path + b".extra-" + time_text.encode()


def has_anything(aside: bytes) -> bool:
    """True when something was moved there; else the directory is removed."""
    try:
        os.rmdir(aside)
    except OSError:
        return True
    return False


def _refuse_traps(path: bytes) -> None:
    """Refuses a path that leads through a symlink which somebody else can exchange: he could lead what is recovered to
    any place, with the rights of this process."""
    for link, directory in _links(path):
        others = directory.st_uid not in (0, os.geteuid()) or (
            directory.st_mode & _OTHERS_MAY_WRITE and not directory.st_mode & stat.S_ISVTX
        )
        if others or os.lstat(link).st_uid not in (0, os.geteuid()):
            cause = bilingual("is a symlink that another user can change", "是其他用户可以更改的符号链接")
            raise refused(link, cause, bilingual("name the directory itself", "请直接指定目录本身"))


def _links(path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """The symlinks on the way to a path and through each other, with the status of the directory that each is in."""
    so_far, rest, followed = b"/", [part for part in path.split(b"/") if part not in (b"", b".")], 0
    while rest:
        part = rest.pop(0)
        if part == b"..":
            so_far = os.path.dirname(so_far)
            continue
        here = os.path.join(so_far, part)
        if not os.path.islink(here):
            so_far = here
            continue
        followed += 1
        if followed > 40:  # as the kernel (path_resolution(7))
            raise refused(path, bilingual("has too many levels of symlinks", "符号链接层数过多"))
        yield here, os.stat(so_far)
        text = os.readlink(here)
        so_far = b"/" if text.startswith(b"/") else so_far
        rest = [each for each in text.split(b"/") if each not in (b"", b".")] + rest


def refused(path: bytes, cause: Bilingual, next_step: Bilingual = _ELSEWHERE) -> UsageError:
    """The error for a destination where nothing can be recovered."""
    return UsageError(cause, code=Code.ILLEGAL_PATH, obj=shown(path), next_step=next_step)


def _forbidden(path: bytes, place: Forbidden) -> UsageError:
    where = shown(place.path)
    cause = bilingual(f"would change {where}: {place.why.en}", f"会改动 {where}：{place.why.zh}")
    return refused(path, cause, place.next_step)
