"""``python -m i2core.cli``: the `i2` command where the script is not on the path."""

from i2core.cli.main import main

main()
