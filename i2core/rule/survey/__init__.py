"""Finds differences between source and replica: lists the source, and the backup node compares. Changes nothing."""
