"""Reads the source and drafts records: compares the state on disk with what was sent before."""
