"""Identity and trust of this node: keys, tokens, and the peer book."""
