"""Management package of the embedded stack."""
