"""HTTP interface for job runners."""
