"""A place for integrations with vendors."""
