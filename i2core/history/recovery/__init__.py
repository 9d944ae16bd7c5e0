"""Makes replica and index agree again after a crash (`undo`) or a failed record (`failed`).

Nothing here becomes history: a state that was never acknowledged is taken back. Turning the replica back on request is
`rewind`, which is recorded like any other change.
"""
