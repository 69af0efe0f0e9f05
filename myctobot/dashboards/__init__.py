"""Web console and operators' pages."""
