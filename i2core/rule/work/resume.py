"""What a restart of the work node may rely on.

The catalog says what the replica holds, and which of it is in doubt. It can be relied on after an orderly end, and
after a killed process: then nothing but the source itself is looked at, against the catalog, and what is in doubt is
compared. After a crash of the system neither the catalog nor the source's own latest writes may have reached the disk:
then all is compared, as it is when the rule selects other files, or another node or epoch than before.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from i2core.api import StopRule
from i2core.config.model import Rule, Verify
from i2core.config.words import Spoken
from i2core.rule.boot import boot_id
from i2core.rule.full import means_full
from i2core.rule.reading.catalog import Catalog


def open_catalog(path: Path | None) -> tuple[Catalog, bool]:
    """The catalog in that file, and whether it ended in order. One that may be damaged is made anew.

    Raises:
        StopRule: another program has it open, which is no damage.
    """
    boot = int.from_bytes(boot_id()[:7], "big")
    try:
        catalog = Catalog(path)
        clean = catalog.fact("clean") == 1
        trusted = clean or catalog.fact("boot") in (None, boot)
    except sqlite3.DatabaseError as error:
        if path is None or means_full(error, path.parent):
            raise
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise StopRule(
                Spoken.of("another program has the catalog open", "目录库正被其他程序打开"),
                obj=str(path),
                next_step=Spoken.of("close it there, and start the rule", "请在该程序中关闭它，然后启动规则"),
            ) from error
        catalog, clean, trusted = None, False, False
    if catalog is None or not trusted:
        if catalog is not None:
            catalog.close()
        assert path is not None
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        catalog = Catalog(path)
    catalog.set_fact("boot", boot)
    catalog.set_fact("clean", 0)
    catalog.commit()
    return catalog, clean


def selection(rule: Rule, epoch: int) -> int:
    """A digest of what decides which files are on the replica, and whose it is."""
    parts = [
        rule.backup,
        rule.mapping.value,
        epoch,
        [(each.name, sorted(each.options.items())) for each in rule.filters],
    ]
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def may_resume(catalog: Catalog, rule: Rule, epoch: int, *, clean: bool) -> bool:
    """True when the replica needs no compare. A rule that is to be compared strictly is, unless it ended in order."""
    if not clean and rule.mirror.verify is Verify.STRICT:
        return False
    return catalog.fact("mirrored") == 1 and catalog.fact("selection") == selection(rule, epoch)
