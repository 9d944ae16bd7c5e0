"""i2core: open disaster recovery for files, from a work node to a backup node.

The core knows the road of the bytes and the life of a rule; everything that touches an operating system,
a disk layout or a network is a driver, supplied by a plugin and bound once per rule.
"""

__version__ = "0.1.0"
