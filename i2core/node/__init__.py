"""The daemon of one host: supervisor, control API, identity, logbook."""
