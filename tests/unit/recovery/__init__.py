"""Tests of single parts of a recovery."""
