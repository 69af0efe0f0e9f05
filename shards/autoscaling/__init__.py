"""Autoscaling of pools."""
