"""Inventory of shards."""
