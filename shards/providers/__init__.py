"""Providers of containers."""
