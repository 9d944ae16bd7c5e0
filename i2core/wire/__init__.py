"""The protocol on a link: frames, handshake, and the session, which keeps order, answers and acks."""
