"""One whole comparison: installs the peers, runs them and i2 side by side, writes bench/results.md.

Needs root: the runs live in a network namespace of their own. README.md tells what is measured.
"""

from __future__ import annotations

import argparse
import compileall
import os
import shutil
import subprocess
import sys
from pathlib import Path

import report

HERE = Path(__file__).resolve().parent
PACKAGES = {"rsync": "rsync", "lsyncd": "lsyncd", "syncthing": "syncthing", "unshare": "util-linux", "ip": "iproute2"}
ONCE = "rsyncd,rsync-local,cp -a,tar,syncthing,i2,i2-tls"
LIVE = "lsyncd-d1,syncthing,i2,i2-tls"


def install_peers() -> None:
    """Installs what is missing by apt-get; a peer that cannot be had is left out of the run with a line."""
    missing = [package for command, package in PACKAGES.items() if shutil.which(command) is None]
    if missing and shutil.which("apt-get"):
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        subprocess.run(["apt-get", "-qq", "install", "-y", "--no-install-recommends", *missing], check=False)


def available(names: str) -> str:
    """Of the comma-separated peers, those whose program is here."""
    program = {"rsyncd": "rsync", "rsync-local": "rsync", "lsyncd-d1": "lsyncd", "cp -a": "cp"}
    kept = []
    for name in names.split(","):
        if name in {"i2", "i2-tls"} or shutil.which(program.get(name, name)):
            kept.append(name)
        else:
            print(f"left out, not installed: {name}", file=sys.stderr)
    return ",".join(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of parts A, B, C; medians are reported")
    parser.add_argument("--workloads", default="1,2,3,4")
    parser.add_argument("--parts", default="G,D,E", help="live parts; empty for none")
    parser.add_argument("--once", default=ONCE, help="peers of parts A, B, C; empty for none")
    parser.add_argument("--live", default=LIVE, help="peers of the live parts")
    parser.add_argument("--report", type=Path, default=HERE / "results.md")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("make bench needs root: it runs in a network namespace of its own")

    work = Path(os.environ.get("BENCH_DIR", HERE / "work")).resolve()
    results = work / "results.json"
    results.unlink(missing_ok=True)
    environ = dict(os.environ, BENCH_DIR=str(work), BENCH_RES=str(results))
    peers = [sys.executable, str(HERE / "peers.py")]
    install_peers()
    # Of an editable install nobody has compiled the modules, and PYTHONDONTWRITEBYTECODE would leave it so.
    compileall.compile_dir(HERE.parent / "i2core", quiet=1)
    compileall.compile_dir(HERE.parent / "plugins", quiet=1)
    subprocess.run([*peers, "gen"], check=True, env=environ)
    try:
        if chosen.once:
            options = ["--peers", available(chosen.once), "--wl", chosen.workloads, "--rounds", str(chosen.rounds)]
            subprocess.run([*peers, "once", *options], check=True, env=environ)
        if chosen.parts:
            options = ["--peers", available(chosen.live), "--parts", chosen.parts]
            subprocess.run([*peers, "live", *options], check=True, env=environ)
    finally:
        shutil.rmtree(work / "run", ignore_errors=True)
    chosen.report.write_text(report.render(results, rounds=chosen.rounds))
    print(f"written: {chosen.report}")


if __name__ == "__main__":
    main()
