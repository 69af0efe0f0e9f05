"""Attacks on the boundaries of the product, each as a test that shows its refusal."""
