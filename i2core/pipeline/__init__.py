"""Stages of the road that need no plugin: the scan capture, block reading, filter and codec chains."""
