"""AES-256-GCM encryption of the bytes that a rule sends."""
