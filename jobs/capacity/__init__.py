"""Demand of jobs for pools and shards."""
