"""Runs an `i2` command as a child of the demo. The child ends with the demo, even when the demo is killed.

python -m i2core.cli.demo.child PARENT_PID ARGUMENT…
"""

import sys

from i2core.cli.main import run
from i2core.node.oneshot.lifeline import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    sys.exit(run(sys.argv[2:]))
