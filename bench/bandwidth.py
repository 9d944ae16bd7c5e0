"""How well a bandwidth limit is kept: two daemons over TLS, bytes counted by the kernel on the loopback device of a
network namespace of their own, so that headers and acks are in it.

python bench/bandwidth.py [RATE…]        as root; default: 2Mbps 50Mbps 400Mbps; each takes half a minute

For each rate: one rule with that limit; then two rules that share it by [[work.bandwidth]]. Shown is the lowest and the
highest rate of all windows of ten seconds, against the limit; with two rules also each one's part.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from i2core.config.units import parse_rate

I2 = Path(sys.executable).with_name("i2")
RATES = ("2Mbps", "50Mbps", "400Mbps")
INSIDE = "I2_BENCH_NAMESPACE"
BLOCK = os.urandom(1 << 24)
WARM_S, MEASURE_S, WINDOW_S, SAMPLE_S = 3.0, 20.0, 10.0, 0.1


def crossed() -> int:
    """Bytes that the loopback device of this namespace has carried; /sys would show the namespace that mounted it."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next(int(line.split()[9]) for line in lines if line.strip().startswith("lo:"))


def fill(path: Path, size: int) -> None:
    """A file that does not compress."""
    with open(path, "wb") as file:
        while size > 0:
            size -= file.write(BLOCK[:size])


def fingerprint(config: Path) -> str:
    """Of the node with this config."""
    done = subprocess.run([I2, "node", "id", "--json", "--config", config], check=True, capture_output=True)
    return str(json.loads(done.stdout)["fingerprint"])


def configure(base: Path, rules: int, limit: str, *, shared: bool) -> None:
    """Both configs, and a source for each rule."""
    work, backup = base / "work.toml", base / "backup.toml"
    heads = {path: f'[node]\nname = "{path.stem}"\nstate_dir = "{base}/{path.stem}"\n' for path in (work, backup)}
    for path, head in heads.items():
        path.write_text(head)
    ids = {path: fingerprint(path) for path in heads}
    window = f'bandwidth]]\nlimit = "{limit}"\n'
    text = f'[work]\n[[work.peer]]\nname = "backup"\naddress = "127.0.0.1"\nfingerprint = "{ids[backup]}"\n'
    text += f"[[work.{window}" if shared else ""
    for number in range(rules):
        source, target = base / f"source{number}", base / "replicas" / str(number)
        source.mkdir()
        fill(source / "file", int(parse_rate(limit) / 8 * (WARM_S + MEASURE_S) * 1.5))
        text += f'[[rule]]\nname = "r{number}"\nbackup = "backup"\ncapture = "inotify"\n'
        text += f'paths = [{{ source = "{source}", target = "{target}" }}]\n'
        text += "" if shared else f"[[rule.{window}"
    work.write_text(heads[work] + text)
    (base / "replicas").mkdir()
    peer = f'[[backup.peer]]\nname = "work"\nfingerprint = "{ids[work]}"\n'
    backup.write_text(heads[backup] + f'[backup]\nlisten = "127.0.0.1"\nallow_roots = ["{base}/replicas"]\n' + peer)


@contextlib.contextmanager
def daemon(base: Path, name: str) -> Iterator[None]:
    """A running node."""
    with open(base / f"{name}.log", "w") as log:
        process = subprocess.Popen([I2, "node", "run", "--config", base / f"{name}.toml"], stderr=log)
        try:
            while "is up" not in (base / f"{name}.log").read_text():
                if process.poll() is not None:
                    raise SystemExit((base / f"{name}.log").read_text())
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait()


def sent(base: Path) -> list[int]:
    """Bytes of each rule so far."""
    done = subprocess.run(
        [I2, "rule", "status", "--json", "--config", base / "work.toml"], check=True, capture_output=True
    )
    return [rule["wire_bytes"] for rule in json.loads(done.stdout)]


def measure(base: Path, rules: int, limit: str) -> str:
    """One line of the table."""
    place = Path(tempfile.mkdtemp(dir=base))
    try:
        configure(place, rules, limit, shared=rules > 1)
        with daemon(place, "backup"), daemon(place, "work"):
            time.sleep(WARM_S)
            before = sent(place)
            samples = []
            began = time.monotonic()
            while (now := time.monotonic() - began) < MEASURE_S:
                samples.append((now, crossed()))
                time.sleep(SAMPLE_S)
            parts = [after - earlier for after, earlier in zip(sent(place), before, strict=True)]
    finally:
        shutil.rmtree(place)
    bps = parse_rate(limit)
    ratios = [
        (after[1] - earlier[1]) * 8 / (after[0] - earlier[0]) / bps
        for earlier in samples
        for after in samples
        if abs(after[0] - earlier[0] - WINDOW_S) < SAMPLE_S and after > earlier
    ]
    shares = ", ".join(f"{part / sum(parts):.1%}" for part in parts)
    return f"| {limit} | {rules} | {min(ratios):.1%} | {max(ratios):.1%} | {shares} |"


def main() -> None:
    """All rates."""
    if not os.environ.get(INSIDE):
        os.environ[INSIDE] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, *sys.argv[1:]])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    base = Path(tempfile.mkdtemp(prefix="i2-bandwidth-"))
    print("| limit | rules | lowest 10 s | highest 10 s | parts |\n|---|---|---|---|---|")
    try:
        for limit in sys.argv[1:] or RATES:
            for rules in (1, 2):
                print(measure(base, rules, limit), flush=True)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
