"""Shipped fake of a model provider."""
