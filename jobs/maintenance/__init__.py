"""Retention of old jobs and totals for metrics."""
