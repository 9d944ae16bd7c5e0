"""A node: one host that protects files or keeps replicas. The daemon, its identity, and its control API."""
