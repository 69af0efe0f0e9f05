"""Widgets and base classes of the admin pages."""
