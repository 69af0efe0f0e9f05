"""Assignment of waiting jobs to free slots."""
