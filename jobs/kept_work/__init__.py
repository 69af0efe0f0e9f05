"""Agents' work that is kept with its job: storage in bounds, encrypted, and its reading."""
