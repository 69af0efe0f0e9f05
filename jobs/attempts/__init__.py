"""Writes of a runner to its attempt, each checked by its fencing token."""
