"""What crosses a link: frames, handshake, and the session that keeps order, answers and acks."""
