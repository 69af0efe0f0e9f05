"""Isolation of an agent: its view of the machine, its limits and its end."""
