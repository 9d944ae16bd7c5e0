"""Turns what `peers.py` measured (a JSON list of rows) into bench/results.md."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

WORKLOADS = {"1": "2 GiB file, random", "2": "2 GiB file, half text", "3": "50,000 × 4 KiB", "4": "system tree"}
KINDS = {"first": "first mirror", "quick": "unchanged, quick", "strict": "unchanged, strict"}
COMMANDS = {
    "rsyncd": "rsync -aH --numeric-ids --delete SRC/ rsync://127.0.0.1/m/",
    "rsync-local": "rsync -aH --numeric-ids --delete SRC/ DST/",
    "cp -a": "cp -a SRC/. DST/",
    "tar": "tar -C SRC -cf - . | tar -C DST -xpf -",
    "syncthing": "two daemons, TLS over lo",
    "lsyncd-d1": "lsyncd, rsync over lo, delay 1 s",
    "i2": "i2 replicate SRC DST --once (live: without --once)",
    "i2-tls": "i2 replicate SRC NODE:DST --once --compress none, to i2 node run over lo",
}


def _output(*command: str) -> str:
    """First line of what the command prints; a dash when it is not here."""
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        return "-"
    return lines[0].strip() if lines else "-"


def machine_facts() -> list[str]:
    """Lines of a Markdown list: processor, memory, kernel, file system, versions."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    filesystem = _output("stat", "-f", "-c", "%T", str(Path(__file__).parent))
    versions = [_output(*c) for c in (("rsync", "--version"), ("lsyncd", "--version"), ("syncthing", "--version"))]
    commit = _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    return [
        f"- {os.cpu_count()} cores ({cpu}), {memory:.0f} GiB, kernel {platform.release()}, {filesystem}",
        f"- Python {platform.python_version()}, i2core at {commit}",
        *(f"- {version[:70]}" for version in versions if version != "-"),
    ]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table, figures to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" * 2 + "|--:" * (len(head) - 2) + "|"]
    return lines + ["| " + " | ".join("-" if cell is None else str(cell) for cell in row) + " |" for row in rows] + [""]


def _median(rows: Sequence[Row], key: str) -> float:
    values: list[float] = [row[key] for row in rows]
    return statistics.median(values)


def once_table(rows: Sequence[Row]) -> list[str]:
    """Parts A, B, C: medians, and the ratio to rsync's daemon on the same task."""
    groups: dict[tuple[str, str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["part"] in {"A", "B", "C"} and not any(row["rc"]):
            groups[row["part"], row["wl"], row["kind"]][row["peer"]].append(row)
    lines = []
    for (part, workload, kind), peers in sorted(groups.items()):
        base = peers.get("rsyncd") or groups.get((part, workload, "delta"), {}).get("rsyncd")
        cells = []
        for peer, runs in peers.items():
            wall = _median(runs, "wall")
            synced = statistics.median(run["wall"] + run["sync_after"] for run in runs)
            cells.append(
                (
                    f"**{peer}**" if peer.startswith("i2") else peer,
                    f"{min(run['wall'] for run in runs):.2f} - {max(run['wall'] for run in runs):.2f}",
                    f"{wall:.2f}",
                    f"{wall / _median(base, 'wall'):.2f}" if base else None,
                    f"{synced:.2f}",
                    f"{_median(runs, 'cpu'):.2f}",
                    f"{_median(runs, 'rss_mb'):.0f}",
                    f"{_median(runs, 'wire_mb'):.1f}",
                )
            )
        lines += [f"### {part}: {WORKLOADS[workload]}, {KINDS.get(kind, f'100 pages changed ({kind})')}", ""]
        head = ("peer", "wall s, range", "wall s", "÷ rsyncd", "with sync s", "cpu s", "peak RSS MB", "wire MB")
        lines += table(head, cells)
    return lines


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def live_tables(rows: Sequence[Row]) -> list[str]:
    """Parts D, E, G. A dash: it did not happen within the time allowed."""
    by_part: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_part[row["part"]].append(row)
    lines: list[str] = []
    if by_part["D"]:
        lines += ["### D: one change until it is seen on the replica", ""]
        cells = [
            (r["peer"], r["n"], _seconds(r["p50"]), _seconds(r["p99"]), _seconds(r["max"]), len(r["lost"]))
            for r in by_part["D"]
        ]
        lines += table(("peer", "changes", "p50 s", "p99 s", "max s", "not seen in 60 s"), cells)
    if by_part["D-big"]:
        lines += ["### D: 4 KiB changed inside a 2 GiB file", ""]
        runs = [(r["peer"], r["runs"]) for r in by_part["D-big"]]
        cells_big = [
            (
                peer,
                len(run),
                _seconds(max((w for w, _, _ in run if w is not None), default=None)),
                max(m for _, m, _ in run),
            )
            for peer, run in runs
        ]
        lines += table(("peer", "changes", "slowest s", "most wire MB"), cells_big)
    if by_part["E-burst"]:
        lines += ["### E: a burst of 20,000 files", ""]
        cells_burst = [(r["peer"], r["make"], r["wall"], r["cpu"], r["reached"]) for r in by_part["E-burst"]]
        lines += table(("peer", "written in s", "complete after s", "cpu s", "files there"), cells_burst)
    if by_part["E-load"]:
        lines += ["### E: 500 mixed operations a second for a minute", ""]
        cells_load = [
            (
                r["peer"],
                r["ops"],
                _seconds(r["lag_p50"]),
                _seconds(r["lag_max"]),
                r["catchup"],
                r["cpu"],
                "yes" if not any(r["diff"][key] for key in ("missing", "extra", "differ")) else "no",
            )
            for r in by_part["E-load"]
        ]
        lines += table(("peer", "operations", "lag p50 s", "lag max s", "equal after s", "cpu s", "equal"), cells_load)
    if by_part["G"]:
        lines += ["### G: idle", ""]
        cells_idle = [(r["peer"], r["cpu_per_min"], r["rss_mb"]) for r in by_part["G"]]
        lines += table(("peer", "cpu s a minute", "RSS MB"), cells_idle)
    return lines


def render(results: Path, *, rounds: int) -> str:
    """The whole report. `results` is the file that peers.py wrote."""
    rows: list[Row] = json.loads(results.read_text())
    peers = list(dict.fromkeys(row["peer"] for row in rows if row["peer"] != "none"))
    lines = ["# Results", "", f"Written by `make bench BENCH_ROUNDS={rounds}`; README.md tells what was measured.", ""]
    lines += [*machine_facts(), "", "Commands:", ""]
    lines += [f"- {peer}: `{COMMANDS.get(peer, peer)}`" for peer in peers]
    wrong = [row for row in rows if row["part"] == "A-verify" and not row["same"]]
    errors = [row for row in rows if row["part"] == "error"]
    failed = [row for row in rows if any(row.get("rc", ()))]
    unequal = [row for row in rows if row["part"] == "C-verify" and row["cmp"]]
    lines += ["", f"Medians of {rounds} rounds. MB are 10⁶ bytes.", "", *once_table(rows), *live_tables(rows)]
    if wrong or errors or failed or unequal:
        lines += ["### Not equal, or failed", ""]
        lines += [
            f"- {row['peer']}, workload {row['wl']}: "
            f"{row['missing']} missing, {row['extra']} extra, {row['differ']} differ"
            for row in wrong
        ]
        lines += [f"- {row['peer']}, workload 1: the file is not the same after part C" for row in unequal]
        lines += [f"- {r['peer']}, workload {r['wl']}, {r['part']} {r['kind']}: exit code {r['rc'][0]}" for r in failed]
        lines += [f"- {row['peer']}: {row['err']}" for row in errors]
        lines.append("")
    return "\n".join(lines)
