"""Stored event logs of jobs."""
