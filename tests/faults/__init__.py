"""Faults of the infrastructure, set upon the real processes: no job lost, none done twice."""
