"""Metrics for Prometheus: each layer says its own, and the web process puts them together."""
