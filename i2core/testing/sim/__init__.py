"""A deterministic simulation of both nodes: the real code on a simulated clock, network, disk and kernel.

One seed is one history: what applications do, what breaks, and when. docs/testing.md describes the simulation.
"""
