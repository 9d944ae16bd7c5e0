"""Lists a tree, has the other end compare it, and sends what differs: as a whole, or where something is in doubt."""
