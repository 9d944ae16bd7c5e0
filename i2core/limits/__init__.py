"""Bandwidth limits: how fast a stream may go, and when."""
