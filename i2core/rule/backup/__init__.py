"""The backup side: takes sessions, compares, applies in order, and says what is durable."""
