"""Decides after a restart of the work node whether a rule resumes or compares everything.

The catalog says what the replica holds and which names are unverified. It is reliable after an orderly end and after a
killed process: then the source is compared with the catalog locally, and only unverified names are compared with the
replica. After a crash of the system, the last writes of the catalog and of the source itself may be lost: then the rule
begins with an empty catalog, and everything is compared. The same holds when the rule selects other files, or another
node or epoch than before.

`decide` makes the decision from the rule's memory, the state of the catalog's file, and the way the run is started. It
reads and changes nothing; `open_catalog` carries it out for the file.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

import attrs

from i2core.api import StopRule
from i2core.config.model import First, MirrorOptions, Rule, Verify
from i2core.config.words import Bilingual, bilingual
from i2core.posix.durable import sync_path
from i2core.rule.boot_id import boot_id
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.memory import RuleMemory
from i2core.rule.catalog.seal import Seal, look_at_seal, take_seal_off
from i2core.rule.life.disk_full import means_full


@attrs.frozen
class Resume:
    """The run continues with the catalog and the waiting records."""

    reason: Bilingual


@attrs.frozen
class Mirror:
    """Everything is compared. The rule's memory is valid; above all, its seqs continue."""

    reason: Bilingual


@attrs.frozen
class Fresh:
    """As `Mirror`, with an empty catalog and an empty memory: the content of the file may be wrong."""

    reason: Bilingual
    distrusts: bool = False
    """The doubts are lost as well. An unverified file may have the right size and time, so contents are compared."""


Start = Resume | Mirror | Fresh


@attrs.frozen(kw_only=True)
class CatalogFile:
    """The file of a catalog, as a start finds it."""

    seal: Seal
    boot: int
    """The present boot of the operating system, from `boot_id`."""
    damage: str = ""
    """Why it cannot be used; empty: it is not damaged."""


@attrs.frozen(kw_only=True)
class Run:
    """A run that is about to start."""

    selection: int
    """See `selection`."""
    same_roots: bool
    """The source directories are those that were mirrored, with the same device numbers."""
    once: bool = False
    """The run ends when everything has been compared."""
    compare: bool = False
    """A person asked for a compare."""
    strict: bool = False
    """The rule has `verify = "strict"`."""


def decide(memory: RuleMemory, file: CatalogFile, run: Run) -> Start:
    """Whether the run resumes. The first reason against it is reported."""
    if file.damage:
        return Fresh(bilingual("the catalog was damaged", "目录库已损坏"), distrusts=True)
    orderly = file.seal is Seal.WHOLE
    if not orderly and memory.boot not in (None, file.boot):
        # The page cache is lost, and with it the last writes of the catalog and of the source.
        return Fresh(bilingual("the system restarted without an orderly end", "系统未正常结束即重新启动"))
    if run.once:
        return Mirror(bilingual("a single run compares everything", "单次运行会比较全部内容"))
    if run.compare:
        return Mirror(bilingual("a compare was asked for", "已请求比较"))
    if not run.same_roots:
        return Mirror(bilingual("it is unknown whether these directories were mirrored", "无法确认镜像过这些目录"))
    if not memory.mirrored:
        return Mirror(bilingual("no mirror has been completed", "此前没有完成的镜像"))
    if memory.selection != run.selection:
        return Mirror(
            bilingual(
                "the rule selects other files than before, or has another backup node or epoch",
                "规则所选文件、灾备机或任期与之前不同",
            )
        )
    if memory.left_out:
        # The obstacle may be gone by now, and that raises no event.
        return Mirror(bilingual("files were skipped in the last run", "上次运行跳过了一些文件"))
    if run.strict and not orderly:
        return Mirror(
            bilingual(
                "the last run had no orderly end, so contents are compared (verify)",
                "上次运行未正常结束，因此需比较内容（verify）",
            )
        )
    return Resume(bilingual("the catalog can be relied on", "目录库可信"))


def compares_contents(memory: RuleMemory, mirror: MirrorOptions) -> bool:
    """True when a mirror that begins now compares contents, and not only sizes and times."""
    # Files that were copied to the replica by hand may have the right sizes and times but other contents.
    seeded = mirror.first is First.MANUAL and not memory.seed_checked
    return mirror.verify is Verify.STRICT or memory.distrusted or seeded


class Opened(NamedTuple):
    """A catalog that was opened."""

    catalog: Catalog
    start: Start
    clean: bool
    """The last run ended orderly, and its catalog is in use."""
    damage: str = ""
    """Why the catalog that was there was dropped; empty when it was not damaged."""


def open_catalog(path: Path | None, run: Run) -> Opened:
    """The catalog in that file, and how the run starts. For a `Fresh` start the catalog is empty.

    Raises:
        StopRule: another program has it open, which is not damage.
    """
    boot = int.from_bytes(boot_id()[:7], "big")
    if path is None:
        catalog = Catalog(None)
        return Opened(catalog, decide(catalog.memory.now, CatalogFile(seal=Seal.NONE, boot=boot), run), clean=False)
    _finish_drop(path)
    seal = look_at_seal(path)
    found, damage = (None, "its content is not what was written") if seal is Seal.BROKEN else _open(path)
    memory = RuleMemory() if found is None else found.memory.now
    start = decide(memory, CatalogFile(seal=seal, boot=boot, damage=damage), run)
    if isinstance(start, Fresh):
        if found is not None:
            found.close(clean=False)
        drop_catalog(path, distrusts=start.distrusts)
        found = Catalog(path)
    assert found is not None
    try:
        # Also after a fresh start: a time that was noted before is never too late.
        found.memory.note(boot=boot, record_ns=memory.record_ns)
        found.commit()
    except BaseException:
        found.close(clean=False)
        raise
    return Opened(found, start, clean=seal is Seal.WHOLE and not isinstance(start, Fresh), damage=damage)


def _open(path: Path) -> tuple[Catalog | None, str]:
    """The catalog, and its damage; None with a damaged one."""
    try:
        catalog = Catalog(path)
    except sqlite3.DatabaseError as error:
        if not is_damage(error, path.parent):
            raise
        return None, str(error)
    try:
        take_seal_off(path)
    except BaseException:
        catalog.close(clean=False)  # if it stayed open, the next attempt would find it locked
        raise
    return catalog, ""


def drop_catalog(path: Path, *, distrusts: bool = True) -> None:
    """Replaces a catalog that is not open by an empty one, which the next mirror fills. `distrusts`: see `Fresh`.

    The new one is complete before the old one is removed. The case that breaks otherwise: the disk is full, or the
    process is killed, between the two. The next start would find no catalog, conclude that the rule never ran, and not
    compare contents.
    """
    if not distrusts:
        _remove(path)
        return
    fresh = _successor(path)
    making = path.with_name(path.name + ".making")
    _remove(making)
    catalog = Catalog(making)
    try:
        catalog.memory.note(distrusted=True)
        catalog.commit()  # `close` would not report a full disk
    finally:
        catalog.close(clean=False)
    sync_path(making)
    making.replace(fresh)
    _finish_drop(path)


def _finish_drop(path: Path) -> None:
    """Completes a `drop_catalog` that was interrupted: the new catalog is there, and the old one still, too."""
    fresh = _successor(path)
    if fresh.exists():
        _remove(path)
        fresh.replace(path)


def _successor(path: Path) -> Path:
    return path.with_name(path.name + ".new")


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".seal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_damage(error: sqlite3.DatabaseError, where: Path) -> bool:
    """True when the error says that a file of SQLite's in `where` is damaged, or cannot be read; False for a full disk.

    Raises:
        StopRule: another program has it open.
    """
    if means_full(error, where):
        return False
    # An error that our own check raised has no code.
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        raise StopRule(
            bilingual("another program has the catalog open", "目录库正被其他程序打开"),
            obj=str(where),
            next_step=bilingual("close it there, and start the rule", "请在该程序中关闭它，然后启动规则"),
        ) from error
    return True


def selection(rule: Rule, epoch: int) -> int:
    """A digest of the options that decide which files are replicated, what of each file, to which node and epoch."""
    parts: list[object] = [
        rule.backup,
        rule.mapping.value,
        epoch,
        [(each.name, sorted(each.options.items())) for each in rule.filters],
    ]
    if rule.inode_flags:  # objects that were sent without this option lack them
        parts.append("inode flags")
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")
