"""How a rule starts, depending on its memory and the state of its catalog file."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from i2core.api import Entry, Place, StopRule
from i2core.config.model import First, MirrorOptions, Verify
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.memory import MemoryTable, RuleMemory
from i2core.rule.catalog.seal import Seal, look_at_seal
from i2core.rule.work import resume
from i2core.rule.work.resume import (
    CatalogFile,
    Fresh,
    Mirror,
    Resume,
    Run,
    compares_contents,
    decide,
    open_catalog,
)

TOP = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0)
KNOWN = RuleMemory(boot=7, mirrored=True, selection=5, next_seq=100, durable_seq=99)
"""Of a rule that was mirrored; it resumes with `FILE` and `RUN`."""
FILE = CatalogFile(seal=Seal.WHOLE, boot=7)
RUN = Run(selection=5, same_roots=True)

RESUMES, DAMAGED, RESTARTED = "the catalog can be relied on", "the catalog was damaged", "the system restarted"
SINGLE, ASKED, ROOTS = "a single run compares everything", "a compare was asked for", "it is unknown whether these"
UNFINISHED, SELECTION, SKIPPED = "no mirror has been completed", "the rule selects other files", "files were skipped"
STRICTLY = "the last run had no orderly end"

TABLE = [
    # what the rule remembers, the file, the run, what follows, its reason
    ({}, {}, {}, Resume, RESUMES),
    ({}, {"seal": Seal.NONE}, {}, Resume, RESUMES),  # a killed process
    ({}, {"boot": 8}, {}, Resume, RESUMES),  # an orderly end, and a reboot
    ({"boot": None}, {"seal": Seal.NONE}, {}, Resume, RESUMES),
    ({}, {"seal": Seal.NONE, "boot": 8}, {}, Fresh, RESTARTED),
    ({}, {"seal": Seal.NONE, "boot": 8}, {"once": True}, Fresh, RESTARTED),
    ({}, {"damage": "broken"}, {}, Fresh, DAMAGED),
    ({}, {"damage": "broken", "seal": Seal.BROKEN, "boot": 8}, {"compare": True}, Fresh, DAMAGED),
    ({}, {}, {"once": True}, Mirror, SINGLE),
    ({}, {}, {"compare": True}, Mirror, ASKED),
    ({}, {}, {"same_roots": False}, Mirror, ROOTS),
    ({"mirrored": False}, {}, {}, Mirror, UNFINISHED),
    ({}, {}, {"selection": 6}, Mirror, SELECTION),
    ({"selection": None}, {}, {}, Mirror, SELECTION),
    ({"left_out": True}, {}, {}, Mirror, SKIPPED),
    ({}, {"seal": Seal.NONE}, {"strict": True}, Mirror, STRICTLY),
    ({}, {}, {"strict": True}, Resume, RESUMES),
    # These decide how a run continues, not whether it does.
    ({"distrusted": True, "outgrown": True, "seed_checked": True}, {}, {}, Resume, RESUMES),
    ({"next_seq": None, "durable_seq": 0}, {}, {}, Resume, RESUMES),
]


@pytest.mark.parametrize(("remembered", "found", "asked", "start", "reason"), TABLE)
def test_the_decision(
    remembered: dict[str, object], found: dict[str, object], asked: dict[str, object], start: type, reason: str
) -> None:
    memory = attrs.evolve(KNOWN, **remembered)  # type: ignore[arg-type]
    decision = decide(memory, attrs.evolve(FILE, **found), attrs.evolve(RUN, **asked))  # type: ignore[arg-type]
    assert type(decision) is start
    assert decision.reason.en.startswith(reason)
    assert decision.reason.zh != decision.reason.en
    assert getattr(decision, "distrusts", False) == (reason == DAMAGED)


def test_a_rule_that_never_ran_is_mirrored() -> None:
    for seal in (Seal.NONE, Seal.WHOLE):
        decision = decide(RuleMemory(), CatalogFile(seal=seal, boot=7), RUN)
        assert isinstance(decision, Mirror)
        assert decision.reason.en == UNFINISHED


@pytest.mark.parametrize(
    ("remembered", "options", "contents"),
    [
        ({}, {}, False),
        ({}, {"verify": Verify.STRICT}, True),
        ({"distrusted": True}, {}, True),
        ({}, {"first": First.MANUAL}, True),
        ({"seed_checked": True}, {"first": First.MANUAL}, False),
        ({"seed_checked": True}, {"first": First.MANUAL, "verify": Verify.STRICT}, True),
    ],
)
def test_whether_a_mirror_compares_contents(
    remembered: dict[str, object], options: dict[str, object], contents: bool
) -> None:
    memory = attrs.evolve(KNOWN, **remembered)  # type: ignore[arg-type]
    assert compares_contents(memory, MirrorOptions(**options)) == contents  # type: ignore[arg-type]


def test_a_catalog_that_another_program_reads_is_not_damaged(tmp_path: Path) -> None:
    catalog = open_catalog(tmp_path / "catalog", RUN).catalog
    catalog.objects.put(Place(0, b""), TOP)
    catalog.close(clean=True)
    with closing(sqlite3.connect(tmp_path / "catalog", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM node").fetchall()
        with pytest.raises(StopRule, match="open"):
            open_catalog(tmp_path / "catalog", RUN)
    catalog, _, clean, damage = open_catalog(tmp_path / "catalog", RUN)
    assert clean
    assert not damage
    assert catalog.objects.get(Place(0, b"")) is not None
    catalog.close(clean=True)


def test_what_is_opened_again_is_clean_only_after_an_orderly_end(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    for before, clean in ((None, False), (True, True), (False, False), (True, True)):
        catalog, _, was_clean, damage = open_catalog(path, RUN)
        assert (was_clean, damage) == (clean, ""), before
        assert look_at_seal(path) is Seal.NONE
        catalog.objects.put(Place(0, b""), TOP)
        catalog.close(clean={None: True, True: False, False: True}[before])


def test_a_file_changed_since_an_orderly_end_is_damaged_even_if_valid(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    catalog = open_catalog(path, RUN).catalog
    catalog.objects.put(Place(0, b""), TOP)
    catalog.close(clean=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE node SET uid = 7")
    catalog, start, clean, damage = open_catalog(path, RUN)
    assert damage
    assert not clean
    assert start == Fresh(start.reason, distrusts=True)
    assert catalog.memory.now.distrusted
    assert catalog.objects.get(Place(0, b"")) is None
    catalog.close(clean=True)


@pytest.mark.parametrize("orderly", [True, False])
def test_after_a_restart_of_the_system_only_an_orderly_end_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orderly: bool
) -> None:
    path = tmp_path / "catalog"
    catalog = open_catalog(path, RUN).catalog
    catalog.memory.note(mirrored=True, selection=5, next_seq=9)
    catalog.objects.put(Place(0, b""), TOP)
    catalog.commit()
    catalog.close(clean=orderly)
    monkeypatch.setattr(resume, "boot_id", lambda: b"another boot")
    again = open_catalog(path, RUN)
    assert type(again.start) is (Resume if orderly else Fresh)
    assert (again.catalog.objects.get(Place(0, b"")) is not None) == orderly
    assert again.catalog.memory.now.next_seq == (9 if orderly else None)
    assert not again.catalog.memory.now.distrusted
    again.catalog.close(clean=True)


def test_a_failed_open_does_not_block_the_next_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "catalog"
    Catalog(path).close(clean=True)

    def fail(path: Path) -> None:
        raise OSError(5, "on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(resume, "take_seal_off", fail)
        with pytest.raises(OSError, match="on purpose") as failed:
            open_catalog(path, RUN)
    opened = open_catalog(path, RUN)
    assert failed.value.errno == 5
    opened.catalog.close(clean=True)


@pytest.mark.parametrize("fails", ["commit", "replace"])
def test_after_an_interrupted_drop_contents_are_still_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The disk is full, or the process is killed, in the middle of it."""
    path = tmp_path / "catalog"
    catalog = open_catalog(path, RUN).catalog
    catalog.memory.note(mirrored=True, selection=5)
    catalog.close(clean=True)
    path.write_bytes(b"damaged" * 1000)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "on purpose")

    with monkeypatch.context() as patch:
        if fails == "commit":
            patch.setattr(MemoryTable, "_save", full)
        else:
            real = Path.replace
            patch.setattr(Path, "replace", lambda self, to: full() if Path(to) == path else real(self, to))
        with pytest.raises(OSError, match="on purpose"):
            open_catalog(path, RUN)
    again = open_catalog(path, RUN)
    assert not isinstance(again.start, Resume)
    assert again.catalog.memory.now.distrusted
    again.catalog.close(clean=True)
