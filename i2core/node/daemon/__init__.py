"""The daemon of a host: one process that runs its rules and serves its backup role."""
