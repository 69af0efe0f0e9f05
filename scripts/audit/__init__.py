"""Offline check of the locks for known vulnerabilities."""
