"""Makes a directory equal to a tree, as a rule: to a moment of a replica's history. Nothing here moves file data; the
mirror does, and the sink that the rule has.

    parts (which trees, which paths, to where) ─▶ View, one tree ─▶ mirror ─▶ session ─▶ sink ─▶ directory

`Recovery` in `engine` is what a command or a daemon uses: `plan` says what would be done and writes nothing, `run` does
it, `progress` can be asked at any time. The trees must not change meanwhile; a moment of the past never does.
"""
