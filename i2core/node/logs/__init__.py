"""The log of a node, for people and for programs."""
