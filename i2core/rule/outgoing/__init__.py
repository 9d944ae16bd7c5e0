"""Keeps records until they are durable on the replica: in memory, then on disk, up to a limit."""
