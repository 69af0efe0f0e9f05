"""REST interface for tenants and operators."""
