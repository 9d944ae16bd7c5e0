"""Live replication: turns the marks of a capture into records, sends them, and follows up those that may be lost."""
