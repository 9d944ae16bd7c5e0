"""``i2 cdp``: the past of the rules that this backup node receives."""
