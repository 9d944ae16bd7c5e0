"""One session: receives, applies, acknowledges, makes durable, and answers what the replica has."""
