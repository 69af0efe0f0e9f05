"""Logins of people: limits on attempts, hashing of passwords, and log entries."""
