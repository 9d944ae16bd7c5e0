"""Mounts: real ones where this host can make them, and the answers to requests without any kernel."""
