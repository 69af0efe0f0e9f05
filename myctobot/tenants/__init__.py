"""Tenants: members, API keys, secrets and the audit log."""
