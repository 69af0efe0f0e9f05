"""HTTP parts of the web process."""
