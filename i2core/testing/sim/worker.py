"""A process that only plays histories: while the kernel is simulated, nothing else of the product may run.

``python -m i2core.testing.sim.worker FIRST COUNT STRIDE FULL`` plays every STRIDE-th seed from FIRST on, COUNT in all,
and prints a JSON line for each. Plan and trace are printed for violations; for all histories if FULL is 1.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from i2core.testing.sim.history import Verdict, play


def as_json(verdict: Verdict, *, in_full: bool) -> dict[str, Any]:
    """A verdict for programs, with plan and trace after a violation, or `in_full`."""
    found: dict[str, Any] = {
        "seed": verdict.seed,
        "violation": verdict.violation,
        "cpu_seconds": verdict.cpu_s,
        "simulated_seconds": verdict.simulated_s,
        "steps": verdict.steps,
    }
    if verdict.violation or in_full:
        found |= {"plan": verdict.plan.lines(), "trace": verdict.trace}
    return found


def main() -> None:
    """Plays the seeds of the arguments; ends early when its output is closed."""
    first, count, stride, in_full = map(int, sys.argv[1:])
    for seed in range(first, first + count * stride, stride):
        print(json.dumps(as_json(play(seed), in_full=bool(in_full))), flush=True)


if __name__ == "__main__":
    main()
