"""Conformance checks and in-memory twins: what a plugin author tests a driver with."""
