"""Moments as people write and read them, in the zone of the work node.

Nothing here knows a history: text becomes nanoseconds, and `read.log` finds the record of that time.
"""
