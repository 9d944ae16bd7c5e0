"""Local files, for core and drivers: how they are opened and read, locks, durable writes, and which errors pass."""
