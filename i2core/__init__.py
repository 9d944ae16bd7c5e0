"""i2core: open disaster recovery for files, from a work node to a backup node.

The core has the data path and the states of a rule; everything that touches an operating system,
a disk layout or a network is a driver, supplied by a plugin and bound once per rule.
"""

__version__ = "0.1.0"
