"""Repairs unverified names: compares them with the replica and sends the differences."""
