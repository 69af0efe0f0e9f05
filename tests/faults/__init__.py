"""Faults of the infrastructure against real processes: no job is lost and no job has its effects twice."""
