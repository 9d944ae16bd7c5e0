"""What kill -9 costs: bytes that cross again, and how far the replica is behind under 500 changes a second.

python bench/kill.py [--seconds 30] [--kills 20]        as root; about four minutes; writes bench/kill.md

Two nodes with TLS on the loopback address of a network namespace of their own, so that lo's counter is theirs alone.
The load writes each byte once, new files and blocks of a big file: were places written again, many changes would become
one while a node is away, and kills would save bytes. A run without a kill says what the load costs on the wire anyway.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from i2core.testing.trees import compare_trees  # noqa: E402
from tests.faults.daemons import Site, open_site  # noqa: E402

peers: Any = importlib.import_module("peers")
WORK = HERE / "work"
MB = 1_000_000
SEED = 1
BLOCK = 64 * 1024
BLOCKS = 2048
"""Of the big file. Changed blocks cross as a whole, and each is changed once."""
FILE_BYTES = (1_000, 60_000)
TICK_S = 0.05
RATE = 500
BURST = 200


@attrs.frozen(kw_only=True)
class Run:
    """Measures of one run."""

    victims: str
    kills: int
    changed: int
    """Bytes that the load wrote."""
    wire: int
    """Bytes on lo, both ways, from the first mirror's end until all was durable."""

    def again(self, base: Run) -> float:
        """Bytes that crossed more than once, by the ratio of a run without kills."""
        return self.wire - self.changed * base.wire / base.changed


class Load(threading.Thread):
    """Writes two new files and a block of the big file in each tick, no byte twice."""

    def __init__(self, top: Path) -> None:
        super().__init__()
        self.written = 0
        self._top = top
        self._dice = random.Random(SEED)
        self._ends = threading.Event()
        (top / "new").mkdir()
        with open(top / "big", "wb") as file:
            for _ in range(BLOCKS):
                file.write(self._dice.randbytes(BLOCK))

    def run(self) -> None:
        """Works until `end`."""
        blocks = self._dice.sample(range(BLOCKS), BLOCKS)
        number = 0
        with open(self._top / "big", "r+b", buffering=0) as big:
            while not self._ends.wait(TICK_S):
                for _ in range(2):
                    number += 1
                    data = self._dice.randbytes(self._dice.randint(*FILE_BYTES))
                    (self._top / "new" / f"{number}").write_bytes(data)
                    self.written += len(data)
                big.seek(blocks.pop() * BLOCK)
                self.written += big.write(self._dice.randbytes(BLOCK))

    def end(self) -> None:
        """Ends it."""
        self._ends.set()
        self.join()


def measure(victims: str, kills: int, seconds: float, home: Path) -> Run:
    """One run: the load works for `seconds`, and the nodes in `victims` die in turn, `kills` times in all."""
    home.mkdir()
    with open_site(home) as site:
        load = Load(site.source)
        for node in site.nodes:
            node.start()
        site.replicating()
        site.settled()
        before, begun = peers.lo_bytes(), time.monotonic()
        load.start()
        try:
            kill_in_turn(site, victims.split(), kills, begun, seconds)
            time.sleep(max(0.0, begun + seconds - time.monotonic()))
        finally:
            load.end()
        site.settled()
        wire = peers.lo_bytes() - before
        site.close()
        if differences := compare_trees(site.source, site.replica):
            sys.exit("\n".join(["the replica is not equal:", *differences]))
        run = Run(victims=victims or "none", kills=kills if victims else 0, changed=load.written, wire=wire)
        print(run, flush=True)
        return run


def kill_in_turn(site: Site, victims: Sequence[str], kills: int, begun: float, seconds: float) -> None:
    """Kills and starts again, evenly over the time with some chance."""
    dice = random.Random(SEED)
    nodes = {node.name: node for node in site.nodes}
    for number in range(kills if victims else 0):
        due = begun + (number + dice.uniform(0.3, 0.7)) * seconds / kills
        time.sleep(max(0.0, due - time.monotonic()))
        node = nodes[victims[number % len(victims)]]
        node.kill()
        node.start()


def lag(home: Path, seconds: int) -> dict[str, float]:
    """Part E of `peers.py`: mixed operations at `RATE` a second, and files that are looked for on the replica."""
    peers.RUN, peers.LOG, peers.RES = str(home / "run"), str(home / "log"), str(home / "results.json")
    for place in (peers.RUN, peers.LOG, home / "source"):
        Path(place).mkdir(parents=True)
    (driver,) = peers.pick(["i2-tls"])
    driver.live_up(str(home / "source"), str(home / "target"))
    try:
        (home / "source" / "ready").write_text("r")
        peers.until((home / "target" / "ready").exists, 60, 0.02)
        peers.part_E(driver, str(home / "source"), str(home / "target"), secs=seconds, rate=RATE, burst=BURST)
    finally:
        driver.down()
    found = next(result for result in peers.load() if result["part"] == "E-load")
    if found["never"] or not peers.same(found["diff"]):
        sys.exit(f"the replica is not equal: {found}")
    return dict(found)


def render(runs: Sequence[Run], lags: dict[str, float], seconds: float) -> str:
    """The report in Markdown."""
    base = runs[0]
    lines = [
        "# What kill -9 costs",
        "",
        f"Written by `python bench/kill.py`. {os.cpu_count()} cores, kernel {os.uname().release}, "
        f"Python {sys.version.split()[0]}; two nodes with TLS over lo. MB are 10⁶ bytes.",
        "",
        f"New files of {FILE_BYTES[0] // 1000}-{FILE_BYTES[1] // 1000} kB and blocks of 64 KiB in a big file, each "
        f"byte written once, {seconds:.0f} s. *Again* is what crossed beyond what the same costs without a kill.",
        "",
        "| killed | kills | changed MB | wire MB | wire ÷ changed | again MB | again ÷ changed | a kill, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        again = run.again(base)
        parts = [
            f"{run.changed / MB:.1f}",
            f"{run.wire / MB:.1f}",
            f"{run.wire / run.changed:.2f}",
            f"{again / MB:.1f}" if run.kills else "",
            f"{again / run.changed:.2f}" if run.kills else "",
            f"{again / run.kills / MB:.2f}" if run.kills else "",
        ]
        lines.append(f"| {run.victims.replace(' ', ' and ')} | {run.kills} | {' | '.join(parts)} |")
    lines += [
        "",
        f"## {RATE} changes a second",
        "",
        "A minute of mixed operations; the lag is from the write of a small file until it is seen on the replica.",
        "",
        "| changes | changes a second | lag median s | longest lag s | equal after s | CPU s, both nodes |",
        "|--:|--:|--:|--:|--:|--:|",
        f"| {lags['ops']:,} | {lags['rate']} | {lags['lag_p50']:.3f} | {lags['lag_max']:.3f} | {lags['catchup']} "
        f"| {lags['cpu']} |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="of each run with kills")
    parser.add_argument("--kills", type=int, default=20, help="in each run")
    parser.add_argument("--lag-seconds", type=int, default=60)
    parser.add_argument("--report", type=Path, default=HERE / "kill.md")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: it runs in a network namespace of its own")
    if not chosen.inside:
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv, "--inside"])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kill-", dir=WORK) as place:
        home = Path(place)
        cases = ("", "backup", "work", "backup work")
        runs = [
            measure(victims, chosen.kills, chosen.seconds, home / str(number)) for number, victims in enumerate(cases)
        ]
        lags = lag(home / "lag", chosen.lag_seconds)
    chosen.report.write_text(render(runs, lags, chosen.seconds))
    print(f"written: {chosen.report}")


if __name__ == "__main__":
    main()
