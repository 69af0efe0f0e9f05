"""REST API of a tenant's own settings: its stored secrets."""
