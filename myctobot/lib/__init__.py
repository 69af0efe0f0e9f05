"""Library of general parts without a subject of their own."""
