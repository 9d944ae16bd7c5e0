"""Plays many histories in several processes, and sums up the results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import attrs

from i2core.api import I2Error

_KEPT = 20
"""Violations that are kept in full."""


@attrs.define
class Campaign:
    """The results of all histories so far."""

    histories: int = 0
    violations: int = 0
    kept: list[dict[str, Any]] = attrs.field(factory=list)
    """The first violations with plan and trace, as from `worker.as_json`."""
    cpu_s: float = 0.0
    simulated_s: float = 0.0
    steps: int = 0
    begun_s: float = attrs.field(factory=time.monotonic)

    def add(self, verdict: dict[str, Any]) -> None:
        """Adds the verdict of one history."""
        self.histories += 1
        self.cpu_s += verdict["cpu_seconds"]
        self.simulated_s += verdict["simulated_seconds"]
        self.steps += verdict["steps"]
        self.violations += bool(verdict["violation"])
        if "trace" in verdict and len(self.kept) < _KEPT:
            self.kept.append(verdict)

    def as_json(self) -> dict[str, Any]:
        """The document of ``i2 selftest --json``."""
        return {
            "histories": self.histories,
            "violations": self.violations,
            "failed": sorted(self.kept, key=lambda verdict: int(verdict["seed"])),
            "seconds": round(time.monotonic() - self.begun_s, 3),
            "cpu_seconds": round(self.cpu_s, 3),
            "histories_per_cpu_hour": round(self.histories * 3600 / self.cpu_s) if self.cpu_s else 0,
            "simulated_seconds": round(self.simulated_s, 3),
            "steps": self.steps,
        }


def run(first: int, count: int, jobs: int, tell: Callable[[Campaign], None], *, in_full: bool = False) -> Campaign:
    """Plays `count` seeds from `first` on, in `jobs` processes. `tell` is called after each history, by one thread at a
    time. Plan and trace are kept only for violations; with `in_full` for all histories.

    Raises:
        I2Error: a process ended before it had played all of its histories.
    """
    campaign, jobs, one = Campaign(), min(jobs, count), Lock()
    workers = [_start(first + job, len(range(job, count, jobs)), jobs, in_full) for job in range(jobs)]

    def follow(worker: subprocess.Popen[str]) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            with one:
                campaign.add(json.loads(line))
                tell(campaign)

    with ThreadPoolExecutor(jobs) as threads:
        try:
            for done in [threads.submit(follow, worker) for worker in workers]:
                done.result()
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    if campaign.histories < count:
        raise I2Error(f"a process of the simulation ended early: {campaign.histories} of {count} histories were played")
    return campaign


def _start(first: int, count: int, stride: int, in_full: bool) -> subprocess.Popen[str]:
    # With a fixed hash seed, sets have the same order everywhere: a seed is the same history on every host.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    numbers = [str(number) for number in (first, count, stride, int(in_full))]
    arguments = [sys.executable, "-m", "i2core.testing.sim.worker", *numbers]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment, text=True)  # noqa: S603 (our own)
