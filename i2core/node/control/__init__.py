"""The control API: the interface of a running daemon for commands and other nodes."""
