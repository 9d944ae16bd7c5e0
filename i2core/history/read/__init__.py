"""Reads the past: the tree at a moment, where an object was, what differs between two moments, and the log.

`places` finds an object where it is now; the other modules ask the index what was different. Nothing is changed here.
"""
