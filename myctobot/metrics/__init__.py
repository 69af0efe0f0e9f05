"""Metrics for Prometheus, put together by the web process."""
