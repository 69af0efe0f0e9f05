"""Read-only answers about the queue."""
