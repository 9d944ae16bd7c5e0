"""Conformance checks and in-memory twins: what a plugin author tests a driver with.

One file for each kind of driver, with its `check_<kind>` and its twin; `CHECKS` finds the check of a kind.
"""

from i2core.testing.checks import CHECKS, Check
from i2core.testing.codec import XOR, XorCodec, check_codec
from i2core.testing.filter import NameFilter, check_filter

__all__ = ["CHECKS", "XOR", "Check", "NameFilter", "XorCodec", "check_codec", "check_filter"]
