"""Building blocks of the REST APIs."""
