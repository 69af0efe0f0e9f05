"""Live streams of job events to viewers."""
