"""Logins of people: limits on attempts, hashing of passwords, and second factors."""
