"""The check at the end of the demo: compares both trees in full, and opens the database on both sides. What was
recovered has been compared before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs

from i2core.cli.demo.past import Recovered
from i2core.cli.demo.view import Lag
from i2core.cli.demo.workload import DATABASE, rows
from i2core.cli.output import printable, size
from i2core.cli.words import words
from i2core.testing.trees import compare_trees

DIFFERENCES_SHOWN = 10


@attrs.frozen(kw_only=True)
class Verdict:
    """The result of the check, with the figures of the run."""

    differences: tuple[str, ...]
    entries: int
    bytes: int
    integrity: str
    """The answer of SQLite's integrity check on the replica; ``ok`` means intact."""
    source_rows: int
    replica_rows: int
    operations: dict[str, int]
    captured: int
    records: int
    lag: Lag
    recovered: Recovered

    @property
    def equal(self) -> bool:
        """True when nothing differs, the database is intact, and the past came back as it was."""
        is_intact = self.integrity == "ok" and self.source_rows == self.replica_rows
        return not self.differences and is_intact and self.recovered.equal

    def lines(self) -> list[str]:
        """The verdict for people."""
        if self.differences:
            lines = [words("demo_differ", count=len(self.differences))]
            lines += [f"  {printable(difference)}" for difference in self.differences[:DIFFERENCES_SHOWN]]
        else:
            lines = [words("demo_equal", files=f"{self.entries:,}", bytes=size(self.bytes))]
        detail = ", ".join(f"{name} {count:,}" for name, count in sorted(self.operations.items()))
        lines += [
            words(
                "demo_database",
                integrity=self.integrity,
                source_rows=f"{self.source_rows:,}",
                replica_rows=f"{self.replica_rows:,}",
            ),
            words(
                "demo_past" if self.recovered.equal else "demo_past_differs",
                seq=self.recovered.seq,
                moment=self.recovered.moment,
                files=f"{self.recovered.files:,}",
                bytes=size(self.recovered.bytes),
                seconds=self.recovered.seconds,
            ),
            words("demo_workload", total=f"{sum(self.operations.values()):,}", detail=detail),
            words(
                "demo_figures",
                captured=f"{self.captured:,}",
                records=f"{self.records:,}",
                median=self.lag.median_ms,
                worst=self.lag.worst_ms,
            ),
        ]
        return lines

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs."""
        return {
            "equal": self.equal,
            "differences": list(self.differences),
            "entries": self.entries,
            "bytes": self.bytes,
            "database": {
                "integrity": self.integrity,
                "source_rows": self.source_rows,
                "replica_rows": self.replica_rows,
            },
            "recovered": attrs.asdict(self.recovered),
            "operations": self.operations,
            "captured": self.captured,
            "records": self.records,
            "lag_ms": {"median": round(self.lag.median_ms, 1), "worst": round(self.lag.worst_ms, 1)},
        }


def judge(
    source: Path,
    replica: Path,
    *,
    operations: dict[str, int],
    captured: int,
    records: int,
    lag: Lag,
    recovered: Recovered,
) -> Verdict:
    """Compares both trees with all metadata. Neither may change meanwhile. The trees come first: opening a database
    could change the files that are compared."""
    differences = tuple(compare_trees(source, replica))
    entries, total = _extent(source)
    _, source_rows = rows(source / DATABASE, immutable=True)
    try:
        integrity, replica_rows = rows(replica / DATABASE, immutable=True)
    except Exception as error:  # sqlite3's errors for a missing or damaged file are the finding
        integrity, replica_rows = str(error), 0
    return Verdict(
        differences=differences,
        entries=entries,
        bytes=total,
        integrity=integrity,
        source_rows=source_rows,
        replica_rows=replica_rows,
        operations=operations,
        captured=captured,
        records=records,
        lag=lag,
        recovered=recovered,
    )


def _extent(root: Path) -> tuple[int, int]:
    """Entries beneath `root`, and the bytes in its files."""
    entries = total = 0
    for directory, directories, files in os.walk(root):
        entries += len(directories) + len(files)
        total += sum(os.lstat(os.path.join(directory, file)).st_size for file in files)
    return entries, total
