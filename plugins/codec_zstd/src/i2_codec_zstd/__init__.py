"""Zstandard compression of the bytes that a rule sends."""
