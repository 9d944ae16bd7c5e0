"""Reading a local tree, for core and drivers: system calls, entries, blocks, and which errors pass."""
