"""Protection of ports that strangers can reach."""
