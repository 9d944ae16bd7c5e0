"""Turns the replica back on request: the records that lead from the present to a moment of the past.

These records are planned and journaled as those of the work node are. So turning back can itself be turned back.
"""
