"""Who may open a session, and on which targets."""
