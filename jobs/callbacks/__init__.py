"""Signed webhooks about a job to its endpoint."""
