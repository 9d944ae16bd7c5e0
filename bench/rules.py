"""Memory of both nodes by the number of idle rules, each of which has an idle session.

python bench/rules.py [RULES…]        as root; default: 1 50 200; writes bench/rules.md

Two nodes with TLS on the loopback address of a network namespace of their own. Each rule has a source of one file; all
replicate, and are left alone. The goal is at most 1 MB for each idle rule and its session on the backup node.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from bandwidth import I2, INSIDE, fingerprint
from compare import compile_modules, until
from idle import cpu_s

HERE = Path(__file__).resolve().parent
KB = 1_000
SETTLE_S = 5.0


@attrs.frozen
class Memory:
    """Of one process, in bytes."""

    rss: int
    pss: int

    @classmethod
    def of(cls, pid: int) -> Memory:
        """As the kernel counts it."""
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kib = {line.split()[0]: int(line.split()[1]) for line in lines[1:]}
        return cls(kib["Rss:"] * 1024, kib["Pss:"] * 1024)


@attrs.frozen
class Run:
    """With so many rules."""

    rules: int
    work: Memory
    backup: Memory
    cpu_s: float
    """Of both nodes, idle, in `SETTLE_S`."""


def configure(base: Path, rules: int) -> None:
    """Both configs, and a source for each rule."""
    heads = {
        name: f'[node]\nname = "{name}"\nstate_dir = "{base}/{name}"\ncontrol_port = 0\n' for name in ("work", "backup")
    }
    for name, head in heads.items():
        (base / f"{name}.toml").write_text(head)
    ids = {name: fingerprint(base / f"{name}.toml") for name in heads}
    text = f'[work]\n[[work.peer]]\nname = "backup"\naddress = "127.0.0.1"\nfingerprint = "{ids["backup"]}"\n'
    for number in range(rules):
        source = base / "sources" / str(number)
        source.mkdir(parents=True)
        (source / "file").write_text(str(number))
        text += f'[[rule]]\nname = "r{number}"\nbackup = "backup"\n'
        text += f'paths = [{{ source = "{source}", target = "{base}/replicas/{number}" }}]\n'
    (base / "work.toml").write_text(heads["work"] + text)
    (base / "replicas").mkdir()
    peer = f'[[backup.peer]]\nname = "work"\nfingerprint = "{ids["work"]}"\n'
    roles = f'[backup]\nlisten = "127.0.0.1"\nallow_roots = ["{base}/replicas"]\n'
    (base / "backup.toml").write_text(heads["backup"] + roles + peer)


@contextmanager
def node(base: Path, name: str) -> Iterator[int]:
    """A running node: its pid."""
    log = base / f"{name}.log"
    with log.open("w") as told:
        process = subprocess.Popen([I2, "node", "run", "--config", base / f"{name}.toml"], stderr=told)
        try:
            until(lambda: "is up" in log.read_text() or process.poll() is not None)
            yield process.pid
        finally:
            process.terminate()
            process.wait()


def measure(rules: int) -> Run:
    """Both nodes, idle."""
    base = Path(tempfile.mkdtemp(prefix="rules-", dir=os.environ.get("BENCH_DIR")))
    try:
        configure(base, rules)
        with node(base, "backup") as backup, node(base, "work") as work:
            until(lambda: all((base / f"replicas/{number}/file").exists() for number in range(rules)))
            time.sleep(SETTLE_S)
            before = cpu_s(work) + cpu_s(backup)
            time.sleep(SETTLE_S)
            cpu = cpu_s(work) + cpu_s(backup) - before
            run = Run(rules, Memory.of(work), Memory.of(backup), cpu)
    finally:
        shutil.rmtree(base)
    print(run, flush=True)
    return run


def render(runs: list[Run]) -> str:
    """The report in Markdown."""
    lines = [
        "# Memory by number of rules",
        "",
        f"Written by `python bench/rules.py`. {os.cpu_count()} cores, kernel {os.uname().release}, "
        f"Python {sys.version.split()[0]}; two nodes with TLS over lo, each rule idle, with one file and one session. "
        "MB and kB are 10⁶ and 10³ bytes. *A rule*: what each one more takes, with its session, than with the fewest.",
        "",
        "| rules | work RSS MB | work PSS MB | a rule, kB | backup RSS MB | backup PSS MB | a rule, kB "
        "| CPU, both nodes |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    first = runs[0]
    for run in runs:
        cells = [str(run.rules)]
        for mine, least in ((run.work, first.work), (run.backup, first.backup)):
            more = run.rules - first.rules
            each = f"{(mine.pss - least.pss) / more / KB:,.0f}" if more else ""
            cells += [f"{mine.rss / KB / KB:,.1f}", f"{mine.pss / KB / KB:,.1f}", each]
        cells.append(f"{run.cpu_s / SETTLE_S:.1%}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    if not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, *sys.argv[1:]])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    compile_modules(HERE.parent)
    report = HERE / "rules.md"
    report.write_text(render([measure(int(word)) for word in sys.argv[1:] or ("1", "50", "200")]))
    print(f"written: {report}")


if __name__ == "__main__":
    main()
