"""Local files, for core and drivers: reading a tree, system calls, locks, durable writes, and which errors pass."""
