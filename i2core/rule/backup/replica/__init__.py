"""What the node knows of a replica: position, progress, and whether its deletes are held."""
